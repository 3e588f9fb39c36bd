"""A damaged model comes back by itself: fetched again under its own assignment, told by an event, and not
tried for ever."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fleet_agent.errors import TransferError
from fleet_agent.slots import Pointers
from fleet_agent.update.repair import AGAIN_CEILING_S, REPAIRS_MAX, plan_repair, wants_repair
from fleet_agent.worker.protocol import Failed
from fleet_shared.messages.desired import OverBudget
from fleet_shared.messages.reported import Failure
from fleet_shared.messages.telemetry import Event
from fleet_shared.messages.update import UpdateState as S
from fleet_shared.names import digest_of
from tests.kit.device import Device
from tests.kit.device_edges import SOAK_S, make_manifest, make_stats

OUTCOMES = [("succeeded", "a-1"), ("succeeded", "a-2")]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device that runs 2.0.0 and ran 1.0.0 before."""
    one = Device(tmp_path)
    one.boot()
    one.install("1.0.0", "a-1", 1)
    one.install("2.0.0", "a-2", 2, soak_inferences=5, bytes_max=10**6)
    yield one
    one.close()


def rot(device: Device, version: str) -> None:
    path = device.slots.path(digest_of(make_manifest(version))) / "model.tflite"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def reboot(device: Device) -> None:
    device.crash()
    device.boot()


def lose(device: Device, *versions: str) -> None:
    """The card loses these models; the agent finds out at its start."""
    for version in versions:
        rot(device, version)
    reboot(device)
    lost = {digest_of(make_manifest(version)) for version in versions}

    def named() -> set[str]:
        pointers = device.slots.load_pointers()
        return {one.manifest for one in (pointers.active, pointers.previous) if one is not None}

    device.run_until(lambda: not named() & lost)


def prove(device: Device) -> None:
    """The model of the repair does well."""
    device.soak()
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)


def told(device: Device) -> list[Event]:
    return [event for event in device.events if event.name in ("slot.repaired", "slot.unrepaired")]


def test_the_newest_model_is_fetched_again_and_comes_back(device: Device) -> None:
    lose(device, "2.0.0")
    assert device.served == "1.0.0", "somebody answers meanwhile"
    device.reach(S.SELF_TESTING)
    device.run(1.0)
    assert [one.code for one in device.link.reports[-1].trouble] == ["slot.damaged"]
    prove(device)
    device.run(1.0)
    assert device.link.reports[-1].trouble == ()
    assert {one.update and one.update.state for one in device.link.reports} == {S.SUCCEEDED}
    assert device.active == device.served == "2.0.0"
    previous = device.slots.load_pointers().previous
    assert previous is not None
    assert previous.version == "1.0.0"
    assert device.jobs.fetched == ["2.0.0"]
    assert device.outcomes == OUTCOMES, "its outcome was told"
    (repaired,) = told(device)
    assert (repaired.name, repaired.assignment, repaired.failure) == ("slot.repaired", "a-2", None)
    assert repaired.detail["tries"] == 1
    reboot(device)
    device.run(5.0)
    assert device.jobs.fetched == [], "once"
    device.install("3.0.0", "a-3", 3)


def test_a_device_that_lost_all_its_models_serves_again(device: Device) -> None:
    lose(device, "1.0.0", "2.0.0")
    assert device.agent.workers.active is None
    prove(device)
    assert device.active == device.served == "2.0.0"
    assert [event.name for event in told(device)] == ["slot.repaired"]


@pytest.mark.parametrize("state", [S.DOWNLOADING, S.SELF_TESTING, S.SOAKING])
def test_a_crash_within_a_repair_loses_nothing(device: Device, state: S) -> None:
    device.downloads.clear()
    lose(device, "2.0.0")
    device.reach(S.DOWNLOADING)
    if state is not S.DOWNLOADING:
        device.downloads.set()
        device.reach(S.SELF_TESTING)
    if state is S.SOAKING:
        device.soak()
    reboot(device)
    device.downloads.set()
    if state is S.SOAKING:
        device.worker.ready()
        device.worker.serving()
        device.worker.say(make_stats())
        device.run(SOAK_S + 1)
    else:
        prove(device)
    assert device.active == device.served == "2.0.0"
    assert device.outcomes == OUTCOMES
    assert [event.name for event in told(device)] == ["slot.repaired"]


def test_a_newer_assignment_takes_the_place_of_a_repair(device: Device) -> None:
    device.downloads.clear()
    lose(device, "2.0.0")
    device.reach(S.DOWNLOADING)
    device.push("3.0.0", "a-3", 3)
    device.downloads.set()
    prove(device)
    assert device.active == device.served == "3.0.0"
    assert device.outcomes == [*OUTCOMES, ("succeeded", "a-3")]
    assert told(device) == []


def test_a_repair_that_fails_leaves_the_device_as_it_is(device: Device) -> None:
    lose(device, "2.0.0")
    device.reach(S.SELF_TESTING)
    device.worker.say(Failed(failure=Failure(code="self_test.wrong", message="other answers")))
    device.run()
    assert device.active == device.served == "1.0.0"
    (failed,) = told(device)
    assert failed.name == "slot.unrepaired"
    assert failed.failure is not None
    assert failed.failure.code == "self_test.wrong"
    device.run(1.0)
    report = device.link.reports[-1]
    assert report.update is not None
    assert (report.update.state, report.update.failure) == (S.SUCCEEDED, None), "the assignment did"
    (trouble,) = report.trouble
    assert "other answers" in trouble.message
    assert device.outcomes == OUTCOMES


def test_a_repair_is_tried_a_few_times_also_over_restarts(device: Device) -> None:
    device.downloads.clear()
    lose(device, "2.0.0")
    for number in range(REPAIRS_MAX + 3):
        device.jobs.refuse_download = [TransferError("gone", code="transfer.gone")]
        device.downloads.set()
        device.run_until(lambda: device.agent.updates.slow.is_idle)
        device.downloads.clear()
        assert len(told(device)) == min(number + 1, REPAIRS_MAX)
        device.run(10.0)
        assert device.state() is S.FAILED, "it does not hurry"
        if number % 3 == 2:
            reboot(device)
        device.clock.seconds += AGAIN_CEILING_S
        device.run()
    assert device.active == device.served == "1.0.0"
    assert device.outcomes == OUTCOMES
    device.downloads.set()
    device.jobs.refuse_download = []
    device.install("3.0.0", "a-3", 3)


def test_what_wants_a_repair_is_read_from_the_disk(device: Device) -> None:
    record, pointers = device.saved, device.slots.load_pointers()
    lost = pointers.without(record.target.manifest)
    assert not wants_repair(None, Pointers())
    assert not wants_repair(record, pointers)
    assert wants_repair(record, lost)
    assert wants_repair(record, Pointers())
    assert not wants_repair(msgspec.structs.replace(record, outcome_reported=False), lost)
    for state in (S.FAILED, S.ROLLED_BACK):
        ended = msgspec.structs.replace(record, state=state)
        assert not wants_repair(ended, lost), "an update that failed is none"
        assert wants_repair(msgspec.structs.replace(ended, repairs=1), lost)
    assert not wants_repair(msgspec.structs.replace(record, repairs=REPAIRS_MAX), lost)
    assert not wants_repair(msgspec.structs.replace(record, state=S.DOWNLOADING, repairs=1), lost)


def test_a_repair_is_the_same_assignment_without_its_trial_by_inferences(device: Device) -> None:
    """The budget of bytes holds for all tries of an assignment."""
    record = device.saved
    repair = plan_repair(record, Pointers(active=record.before), "boot-9", 5)
    assert (repair.entry, repair.target, repair.accepted) == (record.entry, record.target, record.accepted)
    assert (repair.before, repair.before_previous, repair.fallback) == (record.before, None, record.before)
    assert (repair.state, repair.repairs, repair.outcome_reported) == (S.DOWNLOADING, 1, True)
    assert (repair.policy.soak_inferences, repair.policy.bytes_max) == (0, 10**6)
    assert repair.policy.over_bytes is OverBudget.FAIL
    assert repair.evidence == {}
