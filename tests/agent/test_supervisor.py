"""The real supervisor, update runner, slots, workers and outbox, against what goes wrong on a device."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fleet_agent.update.machine import RESUMES_MAX
from fleet_agent.update.record import RecordFile, UpdateRecord
from fleet_agent.worker.protocol import SourceFailed
from fleet_agent.workers import READY_WITHIN_S, SILENT_MIN_S
from fleet_shared.messages.reported import Failure
from fleet_shared.messages.update import UpdateState as S
from fleet_shared.names import digest_of
from fleet_shared.wire import encode
from tests.kit.device import Device
from tests.kit.device_edges import SOAK_S, make_desired, make_manifest, make_stats


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device that runs 1.0.0."""
    one = Device(tmp_path)
    one.boot()
    one.install("1.0.0", "a-1", 1)
    yield one
    one.close()


def reboot(device: Device, **changes: object) -> UpdateRecord:
    """Crash, change the record on disk, and boot; return the record as it was changed."""
    device.crash()
    record = msgspec.structs.replace(device.saved, **changes)
    RecordFile(device.folder / "update.json").save(record)
    device.boot()
    return record


def write_damaged_pointers(device: Device) -> None:
    (device.folder / "slots.json").write_bytes(b"\0" * 100)


# -- the straight way


def test_an_update_runs_from_the_push_to_its_outcome(device: Device) -> None:
    device.install("2.0.0", "a-2", 2)
    assert device.active == device.served == "2.0.0"
    assert device.outcomes == [("succeeded", "a-1"), ("succeeded", "a-2")]
    first, second = device.workers
    assert first.done == ["serve", "drain"]
    assert second.done == ["serve"]
    report = device.link.reports[-1]
    assert report.active is not None
    assert report.active.version == "2.0.0"


def test_the_new_state_is_reported_before_its_outcome_is_sent(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.soak()
    device.link.sent.clear()
    device.live(30)
    reported = next(at for at, sent in enumerate(device.link.sent) if b'"state":"succeeded"' in sent)
    told = next(at for at, sent in enumerate(device.link.sent) if sent.count(b"update.succeeded") == 2)
    assert reported < told


# -- resuming


def test_a_return_that_was_cut_often_is_finished(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.soak()
    reboot(device, state=S.ROLLING_BACK, resumes=20, late_resumes=20)
    assert device.state() is S.ROLLED_BACK
    assert device.active == device.served == "1.0.0"
    assert device.outcomes[1:] == [("rolled-back", "a-2")]
    device.install("3.0.0", "a-3", 3)


def test_restarts_within_a_download_do_not_condemn_the_model(device: Device) -> None:
    device.downloads.clear()
    device.push("2.0.0", "a-2", 2)
    for _ in range(RESUMES_MAX + 1):
        reboot(device)
    assert device.saved.resumes == RESUMES_MAX + 1
    device.downloads.set()
    device.soak()
    reboot(device)
    assert device.state() is S.SOAKING
    device.worker.ready()
    device.worker.serving()
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.outcomes[1:] == [("succeeded", "a-2")]


def test_a_model_that_brings_the_device_down_in_its_self_test_is_given_up(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    for _ in range(RESUMES_MAX + 1):
        device.reach(S.SELF_TESTING)
        reboot(device)
    assert device.state() is S.FAILED
    assert device.failure_code() == "update.loop"
    assert device.active == device.served == "1.0.0"


def test_a_kill_in_the_self_test_downloads_nothing_again(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    reboot(device)
    device.soak()
    assert device.jobs.fetched == []


# -- damaged files


@pytest.mark.parametrize("state", [S.SUCCEEDED, S.SOAKING])
def test_damaged_pointers_are_rebuilt_from_the_record_after_a_switch(device: Device, state: S) -> None:
    if state is S.SUCCEEDED:
        device.install("2.0.0", "a-2", 2)
    else:
        device.push("2.0.0", "a-2", 2)
        device.soak()
    write_damaged_pointers(device)
    reboot(device)
    assert device.state() is state
    assert device.active == device.served == "2.0.0"
    assert device.slots.holds(digest_of(make_manifest("1.0.0")))
    assert [event.name for event in device.events if "damaged" in event.name] == ["pointers.damaged"]


@pytest.mark.parametrize("state", [S.DOWNLOADING, S.SELF_TESTING, S.FAILED, S.ROLLING_BACK, S.ROLLED_BACK])
def test_damaged_pointers_are_rebuilt_from_the_record_before_a_switch(device: Device, state: S) -> None:
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    write_damaged_pointers(device)
    reboot(device, state=state)
    assert device.active == device.served == "1.0.0"


def test_lost_pointers_are_rebuilt_as_damaged_ones(device: Device) -> None:
    (device.folder / "slots.json").unlink()
    reboot(device)
    assert device.active == device.served == "1.0.0"


def test_a_soak_whose_slot_is_gone_goes_back(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.soak()
    write_damaged_pointers(device)
    slot = device.slots.path(digest_of(make_manifest("2.0.0")))
    slot.rename(device.folder / "gone")
    reboot(device)
    assert device.state() is S.ROLLED_BACK
    assert device.active == device.served == "1.0.0"
    assert device.outcomes[1:] == [("rolled-back", "a-2")]


def test_without_pointers_and_record_nothing_is_removed(device: Device) -> None:
    device.crash()
    write_damaged_pointers(device)
    (device.folder / "update.json").write_bytes(b"{")
    device.boot()
    assert device.slots.holds(digest_of(make_manifest("1.0.0")))
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    device.worker.exit()
    device.run()
    assert device.state() is S.FAILED
    assert device.slots.holds(digest_of(make_manifest("1.0.0")))


# -- a disk that refuses


def test_a_return_is_over_only_when_the_pointer_is_written(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.soak()
    device.faults.pointers = True
    device.worker.exit()
    device.run(20)
    assert device.state() is S.ROLLING_BACK
    assert device.served == "1.0.0"
    assert device.outcomes[1:] == []
    reboot(device)
    assert device.state() is S.ROLLING_BACK
    assert device.served == "1.0.0"
    device.faults.pointers = False
    device.run(120)
    assert device.state() is S.ROLLED_BACK
    assert device.active == "1.0.0"
    assert device.outcomes[1:] == [("rolled-back", "a-2")]


def test_a_switch_that_cannot_be_written_leaves_one_worker_that_was_never_restarted(device: Device) -> None:
    serving = device.agent.workers.active
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    candidate = device.worker
    device.faults.pointers = True
    candidate.ready()
    device.run()
    assert device.state() is S.ROLLING_BACK
    assert candidate.done == ["stop"]
    assert device.agent.workers.active is serving
    device.faults.pointers = False
    device.run(5)
    assert device.state() is S.ROLLED_BACK
    assert device.agent.workers.active is serving


def test_an_update_that_ended_on_a_full_disk_ended_for_good(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    device.faults.records = True
    device.worker.ready()
    device.run()
    assert device.failure_code() == "disk.full"
    assert device.outcomes[1:] == [("failed", "a-2")]
    assert device.saved.state.value == "self-testing"
    device.faults.records = False
    reboot(device)
    assert device.state() is S.FAILED
    assert device.saved.state.value == "failed"
    assert device.active == device.served == "1.0.0"
    assert device.outcomes[1:] == [("failed", "a-2")]


def test_the_end_of_an_update_is_saved_as_soon_as_the_disk_takes_it(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    device.faults.records = True
    device.worker.ready()
    device.run(10)
    device.faults.records = False
    device.run(120)
    assert device.saved.state is S.FAILED
    assert device.saved.outcome_reported


def test_a_success_that_could_not_be_saved_is_one_after_a_restart(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.soak()
    device.faults.records = True
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.outcomes[1:] == [("succeeded", "a-2")]
    assert device.saved.state is S.SOAKING
    device.faults.records = False
    reboot(device)
    assert device.state() is S.SUCCEEDED
    assert device.active == device.served == "2.0.0"


def test_an_assignment_whose_record_never_reached_the_disk_is_not_taken_up_twice(device: Device) -> None:
    device.faults.records = True
    device.push("2.0.0", "a-2", 2)
    assert device.outcomes[1:] == [("failed", "a-2")]
    device.faults.records = False
    device.crash()
    device.boot()
    device.push("2.0.0", "a-2", 2)
    device.run(5)
    assert device.agent.updates.record is not None
    assert device.agent.updates.record.entry.assignment == "a-1"
    assert device.outcomes[1:] == [("failed", "a-2")]


def test_an_outcome_waits_for_the_outbox_and_the_next_assignment_for_the_outcome(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    device.faults.outcomes = True
    device.push("3.0.0", "a-3", 3)
    assert device.state() is S.FAILED
    assert device.failure_code() == "update.superseded"
    assert device.saved.entry.assignment == "a-2"
    device.faults.outcomes = False
    device.run(10)
    assert device.outcomes[1:] == [("failed", "a-2")]
    assert device.saved.entry.assignment == "a-3"
    device.soak()


def test_an_outbox_that_cannot_be_read_does_not_end_the_agent(device: Device) -> None:
    device.faults.rows = True
    device.install("2.0.0", "a-2", 2)
    device.faults.rows = False
    assert device.outcomes[1:] == [("succeeded", "a-2")]


def test_a_newer_order_on_a_full_disk_is_no_end_of_the_agent(device: Device) -> None:
    device.faults.records = True
    device.receive(encode(msgspec.structs.replace(make_desired("1.0.0", "a-1", 1), serial=7)))
    assert device.agent.updates.record is not None
    assert device.agent.updates.record.accepted.serial == 7
    device.faults.records = False
    device.run(10)
    assert device.saved.accepted.serial == 7


# -- desired states


def test_an_assignment_that_was_verified_during_a_switch_waits_for_its_end(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    device.trust.hold = True
    device.push("3.0.0", "a-3", 3)
    device.worker.ready()
    device.run()
    device.worker.serving()
    device.trust.hold = False
    device.trust.answer()
    device.run()
    assert device.state() is S.SOAKING
    assert device.saved.entry.assignment == "a-2"
    device.worker.say(make_stats())
    device.run(SOAK_S)
    device.soak()
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.outcomes[1:] == [("succeeded", "a-2"), ("succeeded", "a-3")]


def test_a_newer_envelope_does_not_wait_for_the_retry_of_an_older_one(device: Device) -> None:
    device.trust.unreachable = True
    device.push("2.0.0", "a-2", 2)
    device.live(80)
    tries = len(device.trust.asked)
    device.trust.unreachable = False
    device.push("3.0.0", "a-3", 3)
    assert len(device.trust.asked) == tries + 1
    assert device.saved.entry.assignment == "a-3"
    device.soak()
    assert len(device.trust.asked) == tries + 1, "the old timer is void"


def test_a_desired_state_that_cannot_be_verified_is_said_once_and_tried_until_it_can(device: Device) -> None:
    device.trust.unreachable = True
    envelope = encode(make_desired("2.0.0", "a-2", 2))
    device.receive(envelope)
    device.live(9)
    device.receive(envelope)
    (event,) = [event for event in device.events if event.name.startswith("desired.")]
    assert event.name == "desired.unverified"
    assert event.detail == {"envelope_sha256": digest_of(envelope)}
    assert event.failure is not None
    assert event.failure.code == "trust.unreachable"
    device.trust.unreachable = False
    device.live(30)
    device.soak()


def test_a_refused_desired_state_is_said_once(device: Device) -> None:
    for _ in range(3):
        device.receive(b"forged")
    (event,) = [event for event in device.events if event.name == "desired.refused"]
    assert event.detail == {"envelope_sha256": digest_of(b"forged")}
    assert device.state() is S.SUCCEEDED


def test_a_superseded_download_ends_before_the_next_one_begins(device: Device) -> None:
    device.downloads.clear()
    device.push("2.0.0", "a-2", 2)
    device.run_until(lambda: device.jobs.running == 1)
    device.push("3.0.0", "a-3", 3)
    assert device.outcomes[1:] == [("failed", "a-2")]
    device.downloads.set()
    device.soak()
    assert device.jobs.most == 1
    assert device.jobs.fetched[1:] == ["3.0.0"]


# -- the same manifest again


def test_the_running_manifest_is_pushed_again_without_a_byte_and_without_a_gap(device: Device) -> None:
    slot = device.slots.path(digest_of(make_manifest("1.0.0")))
    before = (slot.stat().st_ino, (slot / "model.tflite").stat().st_ino)
    device.install("1.0.0", "a-2", 2)
    assert device.jobs.fetched == ["1.0.0"]
    assert (slot.stat().st_ino, (slot / "model.tflite").stat().st_ino) == before
    assert device.outcomes[1:] == [("succeeded", "a-2")]


def test_the_same_model_again_is_no_way_back(device: Device) -> None:
    device.install("2.0.0", "a-2", 2)
    device.install("2.0.0", "a-3", 3)
    pointers = device.slots.load_pointers()
    assert pointers.previous is not None
    assert pointers.previous.version == "1.0.0"
    assert device.slots.holds(pointers.previous.manifest)


def test_a_damaged_slot_is_repaired_in_place(device: Device) -> None:
    slot = device.slots.path(digest_of(make_manifest("1.0.0")))
    folder, golden = slot.stat().st_ino, (slot / "golden.npz")
    (slot / "model.tflite").write_bytes(b"rotten")
    golden.unlink()
    device.install("1.0.0", "a-2", 2)
    assert device.active == "1.0.0"
    assert golden.exists()
    assert slot.stat().st_ino == folder, "the slot was gone for a moment"


# -- workers


def test_errors_of_the_old_worker_say_nothing_about_the_new_model(device: Device) -> None:
    old = device.worker
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    old.say(make_stats(requests=5, errors=5))
    device.run()
    assert device.state() is S.SELF_TESTING


def test_a_model_that_only_fails_is_taken_back(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.soak()
    device.worker.say(make_stats(requests=5, errors=5))
    device.run()
    assert device.state() is S.ROLLED_BACK
    assert device.failure_code() == "soak.errors"
    assert device.served == "1.0.0"


def test_a_soak_counts_from_serving_and_needs_a_sign_of_life(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    device.worker.ready()
    device.run(SOAK_S + 1)
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.state() is S.SOAKING, "it does not serve yet"
    device.worker.serving()
    device.run(SOAK_S + 1)
    assert device.state() is S.SOAKING, "it has measured nothing since it serves"
    device.worker.say(make_stats())
    device.run()
    assert device.state() is S.SUCCEEDED


def test_a_worker_that_hangs_in_its_soak_is_killed_and_taken_back(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.soak()
    hung = device.worker
    device.run(SILENT_MIN_S + 1)
    assert hung.killed == f"it said nothing for {SILENT_MIN_S:g} s"
    assert device.state() is S.ROLLED_BACK
    assert device.served == "1.0.0"
    events = [event for event in device.events if event.assignment == "a-2" and event.name == "worker.exited"]
    assert events[0].failure is not None
    assert "it said nothing for 10 s" in events[0].failure.message


def test_after_a_restart_a_soak_begins_anew_and_one_that_is_never_ready_is_taken_back(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.soak()
    reboot(device)
    device.run(SOAK_S * 3)
    assert device.state() is S.SOAKING
    device.run(READY_WITHIN_S)
    assert device.state() is S.ROLLED_BACK
    assert device.served == "1.0.0"
    assert device.outcomes[1:] == [("rolled-back", "a-2")]


def test_a_machine_that_slept_kills_no_worker(device: Device) -> None:
    device.clock.seconds += 8 * 3600
    device.run()
    assert device.worker.killed == ""


def test_a_serving_worker_that_hangs_is_killed_and_started_again(device: Device) -> None:
    hung = device.worker
    device.run(SILENT_MIN_S + 3)
    assert hung.killed
    assert device.served == "1.0.0"
    assert device.worker is not hung


def test_a_device_without_processes_keeps_its_agent_and_starts_the_worker_later(device: Device) -> None:
    device.faults.processes = True
    device.worker.exit()
    device.run(20)
    assert device.served is None
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    device.run(20)
    assert device.failure_code() == "worker.start"
    assert device.saved.evidence["tries"] == 3
    device.faults.processes = False
    device.run(120)
    assert device.served == "1.0.0"


def test_a_start_without_processes_goes_on(device: Device) -> None:
    device.faults.processes = True
    reboot(device)
    assert device.served is None
    device.faults.processes = False
    device.run(10)
    assert device.served == "1.0.0"


def test_a_worker_that_does_not_leave_is_killed(device: Device) -> None:
    old = device.worker
    device.push("2.0.0", "a-2", 2)
    device.soak()
    assert old.done[-1] == "drain"
    device.live(8)
    assert old.killed == "it did not leave within 7 s"


# -- reports


def test_a_state_that_no_message_can_hold_does_not_end_the_agent(device: Device) -> None:
    device.crash()
    device.facts = msgspec.structs.replace(device.facts, hostname="x" * 100_000)
    device.boot()
    assert device.link.reports == []
    device.install("2.0.0", "a-2", 2)


def test_a_source_that_fails_is_told_and_blames_no_model(device: Device) -> None:
    failure = Failure(code="worker.source.missing", message="no samples", hint="look at the folder")
    device.worker.say(SourceFailed(failure=failure))
    device.run(1.0)
    assert device.served == "1.0.0"
    assert [event.failure for event in device.events if event.name == "source.failed"] == [failure]
