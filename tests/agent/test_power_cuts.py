"""The power is cut, or the disk is full, at everything that an update writes down: a verified model runs,
wholly old or wholly new, the update ends, and exactly one outcome is stored, which is true."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_shared.messages.update import FINAL_STATES
from fleet_shared.messages.update import UpdateState as S
from tests.kit.device import Device
from tests.kit.device_edges import Killed, make_stats

WRITES = range(13)
"""A good update writes 9 times, one that returns 12 times."""
ENDINGS = frozenset(state.value for state in FINAL_STATES)
BEFORE_OR_AFTER = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    one = Device(tmp_path)
    one.boot()
    one.install("1.0.0", "a-1", 1)
    yield one
    one.close()


def survive(device: Device, *, bad: bool = False, then: int | None = None) -> None:
    """Push 2.0.0 and live until it has ended, through power cuts; after the first one there is another
    at write ``then``. ``bad``: it fails at all that it is asked."""
    device.push("2.0.0", "a-2", 2)
    for _ in range(300):
        record = device.agent.updates.record
        if record is not None and record.entry.assignment == "a-2" and record.is_settled:
            return
        soaking = device.state() is S.SOAKING
        for worker in list(device.workers):
            worker.live()
            if bad and soaking and worker is device.agent.workers.active:
                worker.say(make_stats(requests=3, errors=3))
        device.agent.step(0.01)
        device.run(0.5)
    raise AssertionError(f"it never ended: {device.agent.updates.record}")


def with_cuts(device: Device, *cuts: int, bad: bool = False) -> None:
    """Live through power cuts, each so many writes after the one before."""
    for cut in cuts:
        device.faults.cut_at = cut
        try:
            survive(device, bad=bad)
        except Killed:
            device.crash()
            assert device.active in ("1.0.0", "2.0.0")
            boot(device)
            assert device.served == device.active
    survive(device, bad=bad)


def boot(device: Device) -> None:
    try:
        device.boot()
    except Killed:
        device.crash()
        device.boot()


@BEFORE_OR_AFTER
@pytest.mark.parametrize("write", WRITES)
def test_a_cut_in_the_update_to_a_good_model(device: Device, write: int, *, after: bool) -> None:
    device.faults.cut_after = after
    with_cuts(device, write)
    assert device.active == device.served == "2.0.0"
    assert device.outcomes[1:] == [("succeeded", "a-2")]
    assert device.saved.state is S.SUCCEEDED


@BEFORE_OR_AFTER
@pytest.mark.parametrize("write", WRITES)
def test_a_cut_in_the_update_to_a_bad_model(device: Device, write: int, *, after: bool) -> None:
    device.faults.cut_after = after
    with_cuts(device, write, bad=True)
    assert device.active == device.served == "1.0.0"
    assert device.outcomes[1:] == [("rolled-back", "a-2")]
    assert device.saved.state is S.ROLLED_BACK


@BEFORE_OR_AFTER
@pytest.mark.parametrize("second", range(6))
@pytest.mark.parametrize("first", WRITES)
def test_a_cut_in_the_start_after_a_cut(device: Device, first: int, second: int, *, after: bool) -> None:
    device.faults.cut_after = after
    with_cuts(device, first, second)
    assert device.active == device.served == "2.0.0"
    assert device.outcomes[1:] == [("succeeded", "a-2")]


@pytest.mark.parametrize("restarted", [False, True], ids=["goes-on", "restarted"])
@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
@pytest.mark.parametrize("write", WRITES)
def test_a_disk_that_is_full_for_a_while(device: Device, write: int, *, bad: bool, restarted: bool) -> None:
    device.faults.full_at = write + 1
    device.push("2.0.0", "a-2", 2)
    for _ in range(12):
        for worker in list(device.workers):
            worker.live()
            if bad and worker is device.agent.workers.active and device.state() is S.SOAKING:
                worker.say(make_stats(requests=3, errors=3))
        device.agent.step(0.01)
        device.run(1.0)
    if restarted:
        device.crash()
        device.boot()
        assert device.served is not None
    device.faults.full_at = None
    survive(device, bad=bad)
    device.live(70)
    ((outcome, assignment),) = device.outcomes[1:]
    assert assignment == "a-2"
    assert outcome in ENDINGS
    assert device.active == device.served == ("2.0.0" if outcome == "succeeded" else "1.0.0")
    assert device.saved.state.value == outcome
    assert not (bad and outcome == "succeeded")
