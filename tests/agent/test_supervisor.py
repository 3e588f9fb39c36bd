"""The real supervisor, update runner, slots, workers and outbox, against what goes wrong on a device."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fleet_agent.link.events import Connected, Disconnected
from fleet_agent.link.note import LinkNote, load_note
from fleet_agent.update.latency import Latency
from fleet_agent.update.machine import RESUMES_MAX
from fleet_agent.update.record import RecordFile, UpdateRecord
from fleet_agent.watch import Bounds
from fleet_agent.worker.protocol import Failed, SourceFailed
from fleet_agent.workers import READY_WITHIN_S, SERVE_WITHIN_S
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Failure, WorkerState
from fleet_shared.messages.telemetry import Event
from fleet_shared.messages.update import UpdateState as S
from fleet_shared.names import digest_of
from fleet_shared.wire import encode
from tests.kit.device import Device
from tests.kit.device_edges import SOAK_S, FakeWorker, make_desired, make_manifest, make_stats

SILENT_S = Bounds().silent_s


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


def test_a_desired_state_that_has_ended_is_said_and_starts_nothing(device: Device) -> None:
    device.trust.expired = True
    device.push("2.0.0", "a-2", 2)
    (event,) = [event for event in device.events if event.name.startswith("desired.")]
    assert event.name == "desired.expired", "it ends no assignment: the clock may be wrong"
    assert event.failure is not None
    assert event.failure.code == "trust.desired.expired"
    assert device.jobs.fetched == ["1.0.0"]
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
    device.run(SILENT_S + 3)
    assert hung.killed == f"it gave no sign of life for {SILENT_S:g} s"
    assert device.state() is S.ROLLED_BACK
    assert device.served == "1.0.0"
    events = [event for event in device.events if event.assignment == "a-2" and event.name == "worker.exited"]
    assert events[0].failure is not None
    assert "it gave no sign of life for 30 s" in events[0].failure.message


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
    device.run(SILENT_S + 3)
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


# -- bad workers


def event_of(device: Device, name: str) -> Event:
    return [event for event in device.events if event.name == name][-1]


def outcome_of(device: Device) -> Event:
    return [event for event in device.events if event.name.startswith("update.")][-1]


def push_with(device: Device, version: str, assignment: str, generation: int, policy: Policy) -> None:
    desired = make_desired(version, assignment, generation)
    device.receive(encode(msgspec.structs.replace(desired, policy=policy)))


def restart_by_itself(device: Device) -> None:
    """Let the worker that is started in place of one that ended come to serve."""
    device.run(2.0)
    device.worker.ready()
    device.run()
    device.worker.serving()
    device.run()


def test_a_crash_in_the_trial_is_taken_back_with_what_it_was_doing(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.soak()
    device.worker.started, device.worker.ended = 8, 7
    device.worker.exit(-11)
    device.run()
    assert device.state() is S.ROLLED_BACK
    assert device.failure_code() == "worker.crashed"
    detail = outcome_of(device).detail
    assert (detail["worker_doing"], detail["worker_inferences"]) == ("serving", 7)
    assert (detail["worker_signal"], detail["soak_restarts"]) == ("SIGSEGV", 1)
    event = event_of(device, "worker.exited")
    assert event.failure is not None
    assert event.failure.code == "worker.crashed"
    assert (event.detail["version"], event.detail["in_inference"]) == ("2.0.0", True)


def test_a_trial_goes_on_after_a_restart_that_the_policy_allows(device: Device) -> None:
    push_with(device, "2.0.0", "a-2", 2, Policy(soak_s=SOAK_S, worker_restarts_max=1))
    device.soak()
    device.worker.say(make_stats())
    device.worker.exit(-11)
    device.run()
    assert device.state() is S.SOAKING
    restart_by_itself(device)
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.state() is S.SUCCEEDED
    assert outcome_of(device).detail["soak_restarts"] == 1
    assert outcome_of(device).detail["soak_requests"] == 20


def test_the_restarts_of_a_trial_are_not_held_up_by_the_devices_own_budget(device: Device) -> None:
    device.agent.workers.budget = 1
    push_with(device, "2.0.0", "a-2", 2, Policy(soak_s=60.0, worker_restarts_max=3))
    device.soak()
    for _ in range(3):
        device.worker.exit(-11)
        device.run(10.0)
        device.worker.ready()
        device.run()
        device.worker.serving()
        device.run()
    assert device.state() is S.SOAKING
    assert device.served == "2.0.0"
    assert not [event for event in device.events if event.name == "worker.given_up"]


def test_one_restart_too_many_takes_it_back(device: Device) -> None:
    push_with(device, "2.0.0", "a-2", 2, Policy(soak_s=SOAK_S, worker_restarts_max=1))
    device.soak()
    device.worker.exit(-11)
    device.run()
    restart_by_itself(device)
    device.worker.exit(-11)
    device.run()
    assert device.state() is S.ROLLED_BACK
    assert device.failure_code() == "worker.crashed"


def test_a_restarted_worker_that_cannot_load_counts_once(device: Device) -> None:
    push_with(device, "2.0.0", "a-2", 2, Policy(soak_s=SOAK_S, worker_restarts_max=2))
    device.soak()
    device.worker.exit(-11)
    device.run(2.0)
    device.worker.say(Failed(failure=Failure(code="worker.model.rejected", message="no")))
    device.worker.exit(1)
    device.run()
    assert device.state() is S.SOAKING
    assert device.agent.workers.report is not None
    assert device.agent.workers.report.failure is not None
    assert device.agent.workers.report.failure.code == "worker.model.rejected"


def test_a_trial_without_its_inferences_is_taken_back_at_the_deadline(device: Device) -> None:
    push_with(device, "2.0.0", "a-2", 2, Policy(soak_s=SOAK_S, soak_inferences=1000, deadline_s=30))
    device.soak()
    device.live(28)
    assert device.state() is S.SOAKING
    device.live(5)
    assert device.state() is S.ROLLED_BACK
    assert device.failure_code() == "soak.inferences"
    assert 280 <= int(outcome_of(device).detail["soak_requests"] or 0) <= 320
    assert outcome_of(device).detail["soak_requests_min"] == 1000
    assert device.served == "1.0.0"


def test_a_policy_that_is_verified_during_the_switch_counts_in_the_trial(device: Device) -> None:
    device.downloads.clear()
    device.push("2.0.0", "a-2", 2, soak_inferences=1000)
    device.trust.hold = True
    device.push("2.0.0", "a-2", 3, soak_inferences=10)
    device.downloads.set()
    device.soak()
    device.trust.answer()
    device.run()
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.outcomes[1:] == [("succeeded", "a-2")]
    assert device.saved.evidence["soak_requests_min"] == 10


@pytest.mark.parametrize("good", [True, False])
def test_a_lost_record_of_a_trial_brings_the_model_before_back(device: Device, good: bool) -> None:
    """Nobody looks at the trial any more: without that, a bad model would stay."""
    device.push("2.0.0", "a-2", 2)
    device.soak()
    device.crash()
    (device.folder / "update.json").write_bytes(b"\0" * 100)
    device.boot()
    assert device.active == device.served == "1.0.0"
    assert device.outcomes[1:] == []
    device.worker.ready()
    device.worker.serving()
    device.push("2.0.0", "a-2", 2)
    device.soak()
    device.worker.say(make_stats(requests=20, errors=0 if good else 20))
    device.run(SOAK_S + 1)
    assert device.outcomes[1:] == [("succeeded" if good else "rolled-back", "a-2")]
    assert device.active == device.served == ("2.0.0" if good else "1.0.0")


def test_a_lost_record_of_a_model_that_came_through_its_trial_changes_nothing(device: Device) -> None:
    device.install("2.0.0", "a-2", 2)
    device.crash()
    (device.folder / "update.json").write_bytes(b"\0" * 100)
    device.boot()
    device.run(5.0)
    assert device.active == device.served == "2.0.0"


def test_a_trial_is_compared_with_the_version_before_also_after_a_restart(device: Device) -> None:
    for _ in range(3):
        device.worker.say(make_stats(p50_us=100.0))
    device.run()
    push_with(device, "2.0.0", "a-2", 2, Policy(soak_s=SOAK_S, latency_ratio_max=2.0))
    device.soak()
    assert device.saved.before_latency == Latency(p50_us=100.0, requests=40)
    device.crash()
    device.boot()
    device.worker.ready()
    device.run()
    device.worker.serving()
    device.worker.say(make_stats(p50_us=250.0))
    device.run(SOAK_S + 1)
    assert device.state() is S.ROLLED_BACK
    assert device.failure_code() == "soak.latency"
    detail = outcome_of(device).detail
    assert (detail["soak_latency_p50_us"], detail["soak_latency_before_p50_us"]) == (250.0, 100.0)
    assert (detail["soak_latency_ratio"], detail["soak_latency_ratio_max"]) == (2.5, 2.0)


def test_the_first_version_has_nothing_to_be_compared_with_and_says_so(device: Device) -> None:
    assert outcome_of(device).name == "update.succeeded"
    assert outcome_of(device).detail["soak_latency_judged"] == "no bound is given"
    assert device.saved.before_latency is None


def test_a_hang_is_seen_by_progress_and_the_worker_started_again(device: Device) -> None:
    hung = device.worker
    hung.started, hung.ended = 5, 4
    for _ in range(70):
        hung.beats += 1  # its threads live
        device.run(1.0)
    assert hung.killed.startswith("inference 5 made no progress for 60")
    event = event_of(device, "worker.exited")
    assert event.failure is not None
    assert event.failure.code == "worker.hung"
    assert device.served == "1.0.0"
    assert device.worker is not hung


def test_the_policy_bounds_the_memory_in_the_trial_and_after_it_and_after_later_updates(
    device: Device,
) -> None:
    policy = Policy(soak_s=SOAK_S, memory_bytes_max=1000)
    push_with(device, "2.0.0", "a-2", 2, policy)
    device.soak()
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.state() is S.SUCCEEDED
    device.push("3.0.0", "a-3", 3)
    device.reach(S.SELF_TESTING)
    device.worker.exit(1)
    device.run()
    assert device.state() is S.FAILED
    device.crash()
    device.boot()
    device.worker.ready()
    device.run()
    device.worker.serving()
    device.worker.rss_bytes = 1001
    device.run(2.0)
    event = event_of(device, "worker.exited")
    assert event.failure is not None
    assert event.failure.code == "worker.memory"
    assert (event.detail["rss_bytes"], event.detail["bound_bytes"]) == (1001, 1000)


def test_a_new_worker_that_takes_too_much_never_serves(device: Device) -> None:
    push_with(device, "2.0.0", "a-2", 2, Policy(soak_s=SOAK_S, memory_bytes_max=1000))
    device.reach(S.SELF_TESTING)
    device.worker.rss_bytes = 2000
    device.run(2.0)
    assert device.state() is S.FAILED
    assert device.failure_code() == "worker.memory"
    assert device.served == "1.0.0"


def test_a_worker_that_is_ready_and_never_serves_is_killed(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    device.worker.ready()
    device.run()
    stuck = device.worker
    for _ in range(int(SERVE_WITHIN_S) + 2):
        stuck.beats += 1
        device.run(1.0)
    assert stuck.killed == "it did not serve within 30 s"
    assert device.state() is S.ROLLED_BACK
    assert device.failure_code() == "worker.late"


def test_a_worker_that_crashes_again_and_again_is_told_and_reported_and_never_given_up_for_good(
    device: Device,
) -> None:
    workers = device.agent.workers
    for _ in range(workers.budget + 1):
        device.worker.exit(-11)
        device.run(61.0)
    given_up = event_of(device, "worker.given_up")
    assert given_up.failure is not None
    assert given_up.failure.code == "worker.given_up"
    assert given_up.assignment == "a-1"
    assert given_up.detail == {"restarts": 11, "last_code": "worker.crashed"}
    report = device.link.reports[-1].worker
    assert report is not None
    assert report.failure is not None
    assert (report.state, report.restarts) == (WorkerState.GIVEN_UP, 11)
    assert report.failure.code == "worker.crashed"
    started = len(device.workers)
    device.run(380.0)
    assert len(device.workers) == started, "there is no hurry"
    while len(device.workers) == started:
        device.run(10.0)
    assert len([event for event in device.events if event.name == "worker.given_up"]) == 1
    device.worker.ready()
    device.run()
    device.worker.serving()
    device.live(602)
    report = device.link.reports[-1].worker
    assert report is not None
    assert (report.state, report.restarts, report.failure) == (WorkerState.SERVING, 0, None)


def test_a_restart_outside_of_a_trial_is_reported(device: Device) -> None:
    device.worker.exit(-11)
    device.run()
    device.run(0.6)
    report = device.link.reports[-1].worker
    assert report is not None
    assert (report.state, report.restarts) == (WorkerState.RESTARTING, 1)


def test_what_a_worker_measured_last_is_stored_also_when_it_was_taken_back(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.soak()
    bad = device.worker
    bad.say(make_stats(requests=5, errors=5))
    device.run()
    assert device.state() is S.ROLLED_BACK
    assert bad.done[-1] == "drain"
    bad.say(make_stats(requests=3))
    bad.exit(0)
    device.run()
    samples = [row for row in device.samples if row.version == "2.0.0"]
    assert [row.values["requests"] for row in samples] == [5.0, 3.0]


def test_the_agent_takes_the_last_window_along_when_it_ends(device: Device) -> None:
    def answer(worker: FakeWorker) -> None:
        worker.say(make_stats(requests=7))
        worker.exit(0)

    device.worker.on_drain = answer
    before = len(device.samples)
    device.agent.close()
    device.crash()
    device.boot()
    assert [row.values["requests"] for row in device.samples[before:]] == [7.0]


# -- what a person at the device reads of the link


def load_link(device: Device) -> LinkNote:
    note = load_note(device.folder / "link.json")
    assert note is not None
    return note


def test_an_agent_that_was_killed_while_connected_says_nothing_of_the_new_start(device: Device) -> None:
    assert load_link(device).online
    device.crash()
    device.boot(connect=False)
    assert not load_link(device).online
    assert "no answer yet" in load_link(device).reason


def test_a_broker_is_away_since_it_went_whatever_the_reason_by_now(device: Device) -> None:
    device.agent.inbox.put(Disconnected("reset"))
    device.run()
    went = load_link(device)
    for reason in ("no route", "refused", "no route"):
        device.run(60.0)
        device.agent.inbox.put(Disconnected(reason))
        device.run()
    assert load_link(device) == msgspec.structs.replace(went, reason="no route")
    device.agent.inbox.put(Connected("session-2"))
    device.run()
    assert load_link(device).boot_ms > went.boot_ms
