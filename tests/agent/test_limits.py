"""How long and how often each state of an update may try, and what becomes of one that does not end."""

import errno
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_agent.bootstrap import BENCHMARK_WITHIN_S, DeviceJobs
from fleet_agent.errors import TransferError
from fleet_agent.settings import RANGES
from fleet_agent.transfer.urls import BlobUrls
from fleet_agent.update.machine import LIMITS, PASSING, TOUCHED, UNTOUCHED, is_late, is_retried
from fleet_agent.update.stage import Stage
from fleet_agent.worker.protocol import Failed
from fleet_agent.workers import SERVE_WITHIN_S
from fleet_shared.messages.desired import OverBudget, WhenTight
from fleet_shared.messages.reported import Failure
from fleet_shared.messages.update import UpdateState as S
from tests.kit.device import Device
from tests.kit.device_edges import SOAK_S, make_stats

TABLE = {
    S.DOWNLOADING: (None, 2, "update.downloading"),
    S.VERIFYING: (1800.0, 2, "update.verifying"),
    S.SELF_TESTING: (2100.0, 3, "update.self_testing"),
    S.SWITCHING: (60.0, 1, "update.switching"),
    S.SOAKING: (2100.0, 1, "update.soaking"),
    S.ROLLING_BACK: (60.0, None, "update.stuck"),
}
"""Written out once more: whoever changes a limit says so here as well."""
READ_ERROR = OSError(errno.EIO, "Input/output error")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device that runs 1.0.0."""
    one = Device(tmp_path)
    one.boot()
    one.install("1.0.0", "a-1", 1)
    yield one
    one.close()


def is_planned(device: Device) -> bool:
    """Whether the effect of the state is to be run once more, in the device's time."""
    return device.agent.updates._stage._again_in_s is not None


def test_the_limits_are_these_and_every_state_that_works_has_one() -> None:
    assert {state: (one.within_s, one.tries, one.code) for state, one in LIMITS.items()} == TABLE
    assert set(LIMITS) == UNTOUCHED | TOUCHED
    assert {"worker.start", "disk.failed"} == PASSING


@pytest.mark.parametrize("state", list(S))
def test_a_state_is_late_beyond_its_limit_and_not_at_it(state: S) -> None:
    within_s = TABLE[state][0] if state in TABLE else None
    assert not is_late(state, within_s or 1e9)
    assert is_late(state, (within_s or 1e9) + 0.1) is (within_s is not None)


@pytest.mark.parametrize("state", list(S))
def test_only_passing_troubles_are_tried_again_and_not_for_ever(state: S) -> None:
    tries = TABLE[state][1] if state in TABLE else 1
    assert not is_retried(state, "worker.self_test", 1)
    assert not is_retried(state, "disk.full", 1)
    if tries is None:
        assert is_retried(state, "disk.failed", 1000)
    else:
        assert not is_retried(state, "disk.failed", tries)
        assert is_retried(state, "disk.failed", tries - 1) is (state in TABLE and tries > 1) or tries == 1


def test_no_state_ends_before_what_it_waits_for_does() -> None:
    """A worker that loads as slowly as the settings allow is not given up by the limit of a state, a
    benchmark not by that of the verification."""
    slowest_s = RANGES["worker_ready_s"].high + SERVE_WITHIN_S
    for state in (S.SELF_TESTING, S.SOAKING):
        assert (LIMITS[state].within_s or 0) > slowest_s
    assert (LIMITS[S.VERIFYING].within_s or 0) >= 1.5 * BENCHMARK_WITHIN_S


def test_a_benchmark_has_its_share_of_what_is_left_until_the_deadline(device: Device) -> None:
    device.push("2.0.0", "a-2", 2, deadline_s=600.0, memory_bytes_max=10**8)
    device.reach(S.SELF_TESTING)
    jobs = DeviceJobs(
        installer=device.jobs.installer,
        inbox=device.agent.inbox,
        urls=BlobUrls("http://controller", device.agent.questions),
        spent=device.folder / "spent.json",
        clock=device.clock,
    )
    device.clock.seconds += 100
    terms = jobs._benchmark_terms(device.saved, threading.Event())
    assert terms.total_s == pytest.approx(250.0)
    assert terms.memory_bytes_max == 10**8


def test_the_time_that_a_machine_slept_counts_for_nothing() -> None:
    stage = Stage()
    for now_s in (100.0, 100.5, 9000.0, 9000.5):
        stage.tick(now_s)
    assert stage.seconds == 2.0
    stage.again_in(1.0)
    assert [stage.tick(now_s) for now_s in (9001.0, 9001.5, 9002.0)] == [False, True, False]


def test_a_self_test_that_does_not_end_fails_with_how_long_it_took(device: Device) -> None:
    """Nobody sees that the worker is late."""
    device.agent.workers.ready_within_s = 1e9
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    for _ in range(211):
        device.worker.say(make_stats())
        device.agent.workers.active.say(make_stats())  # type: ignore[union-attr]
        device.run(10.0)
    assert device.failure_code() == "update.self_testing"
    assert device.outcomes[1:] == [("failed", "a-2")]
    evidence = device.saved.evidence
    assert (evidence["failed_in"], evidence["tries"]) == ("self-testing", 1)
    assert 2100 < float(evidence["failed_after_s"] or 0) < 2103
    assert device.served == "1.0.0"


def test_a_new_model_that_does_not_serve_in_time_is_taken_back(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    device.worker.ready()
    device.run()
    for _ in range(310):
        device.worker.say(make_stats())
        device.run(1.0)
    assert device.failure_code() == "worker.late"
    assert device.outcomes[1:] == [("rolled-back", "a-2")]
    assert device.active == device.served == "1.0.0"


def test_a_return_that_cannot_be_written_is_said_to_be_stuck_and_goes_on(device: Device) -> None:
    device.push("2.0.0", "a-2", 2)
    device.soak()
    device.faults.pointers = True
    device.worker.exit()
    device.live(90)
    (stuck,) = [event for event in device.events if event.name == "update.stuck"]
    assert stuck.failure is not None
    assert stuck.failure.code == "update.stuck"
    assert stuck.assignment == "a-2"
    assert device.served == "1.0.0"
    assert device.state() is S.ROLLING_BACK
    device.faults.pointers = False
    device.live(70)
    assert ("rolled-back", "a-2") in device.outcomes
    assert device.active == "1.0.0"


def test_a_read_error_is_tried_once_more(device: Device) -> None:
    device.downloads.clear()
    device.push("2.0.0", "a-2", 2)
    device.jobs.refuse_verify = [READ_ERROR]
    device.downloads.set()
    device.run_until(lambda: not device.jobs.refuse_verify and is_planned(device))
    device.run(5)
    device.soak()
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.outcomes[1:] == [("succeeded", "a-2")]


def test_a_disk_that_fails_again_ends_the_update(device: Device) -> None:
    device.downloads.clear()
    device.push("2.0.0", "a-2", 2)
    device.jobs.refuse_download = [READ_ERROR, READ_ERROR]
    device.downloads.set()
    device.run_until(lambda: is_planned(device))
    device.run(5)
    device.reach(S.FAILED)
    assert device.failure_code() == "disk.failed"
    assert device.saved.evidence["tries"] == 2


# -- budgets


def over_budget() -> TransferError:
    return TransferError("900 more bytes are needed", hint="a larger budget", code="transfer.budget")


def test_a_download_over_its_budget_fails_at_once(device: Device) -> None:
    device.downloads.clear()
    device.push("2.0.0", "a-2", 2, bytes_max=1)
    device.jobs.refuse_download = [over_budget()]
    device.downloads.set()
    device.reach(S.FAILED)
    assert device.failure_code() == "transfer.budget"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_download_that_waits_goes_on_with_a_larger_budget(device: Device, restarted: bool) -> None:
    device.downloads.clear()
    device.push("2.0.0", "a-2", 2, bytes_max=1, over_bytes=OverBudget.WAIT)
    device.jobs.refuse_download = [over_budget()]
    device.downloads.set()
    device.run_until(lambda: device.saved.waiting is not None)
    if restarted:
        device.crash()
        device.downloads.clear()
        device.boot()
        device.jobs.refuse_download = [over_budget()]
        device.downloads.set()
        device.run_until(lambda: device.saved.waiting is not None)
    device.live(30)
    assert device.state() is S.DOWNLOADING
    progress = device.link.reports[-1].update
    assert progress is not None
    assert progress.failure is not None
    assert (progress.failure.code, progress.failure.hint) == ("transfer.budget", "a larger budget")
    device.push("2.0.0", "a-2", 3, bytes_max=10**6, over_bytes=OverBudget.WAIT)
    assert device.saved.policy.bytes_max == 10**6
    device.soak()
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.outcomes[1:] == [("succeeded", "a-2")]
    assert device.saved.failure is None


def test_a_download_under_a_larger_budget_has_all_its_tries(device: Device) -> None:
    device.downloads.clear()
    device.push("2.0.0", "a-2", 2, bytes_max=1, over_bytes=OverBudget.WAIT)
    device.jobs.refuse_download = [over_budget()]
    device.downloads.set()
    device.run_until(lambda: device.saved.waiting is not None)
    device.jobs.refuse_download = [READ_ERROR]
    device.push("2.0.0", "a-2", 3, bytes_max=10**6)
    device.run_until(lambda: is_planned(device))
    device.run(5)
    device.soak()


def test_a_newer_assignment_takes_the_place_of_one_that_waits(device: Device) -> None:
    device.downloads.clear()
    device.push("2.0.0", "a-2", 2, bytes_max=1, over_bytes=OverBudget.WAIT)
    device.jobs.refuse_download = [over_budget()]
    device.downloads.set()
    device.run_until(lambda: device.saved.waiting is not None)
    device.push("3.0.0", "a-3", 3)
    device.soak()
    assert device.outcomes[1:] == [("failed", "a-2")]


def test_the_deadline_ends_the_wait(device: Device) -> None:
    device.downloads.clear()
    device.push("2.0.0", "a-2", 2, bytes_max=1, over_bytes=OverBudget.WAIT, deadline_s=60.0)
    device.jobs.refuse_download = [over_budget()]
    device.downloads.set()
    device.run_until(lambda: device.saved.waiting is not None)
    device.live(70)
    assert device.failure_code() == "update.deadline"
    assert device.saved.failure is not None
    assert "900 more bytes" in device.saved.failure.message


# -- memory


def test_where_memory_holds_one_worker_the_old_one_ends_first_and_the_gap_is_told(device: Device) -> None:
    old, device.tight = device.worker, True
    device.push("2.0.0", "a-2", 2, when_tight=WhenTight.GAP)
    device.reach(S.SELF_TESTING)
    device.run(1.0)
    assert old.done[-1] == "drain"
    assert device.worker is old, "the new one was started beside the old one"
    old.exit(0)
    device.run(2.0)
    assert device.worker is not old
    device.soak()
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.outcomes[1:] == [("succeeded", "a-2")]
    assert device.active == device.served == "2.0.0"
    assert 1000 <= int(device.saved.evidence["gap_ms"] or 0) <= 4000


def fail_within_the_gap(device: Device) -> None:
    """The old worker had to leave, and the new one ends in its self-test."""
    old, device.tight = device.worker, True
    device.push("2.0.0", "a-2", 2, when_tight=WhenTight.GAP)
    device.reach(S.SELF_TESTING)
    device.run(1.0)
    old.exit(0)
    device.run(2.0)
    device.worker.exit(-signal.SIGSEGV)
    device.run(1.0)


def test_a_model_that_fails_within_the_gap_brings_the_old_one_back(device: Device) -> None:
    fail_within_the_gap(device)
    assert device.outcomes[1:] == [("failed", "a-2")]
    device.worker.ready()
    device.run()
    device.worker.serving()
    device.run()
    assert device.active == device.served == "1.0.0"
    (gap,) = [event for event in device.events if event.name == "swap.gap"]
    assert int(gap.detail["gap_ms"] or 0) >= 3000


def test_a_gap_that_has_not_ended_does_not_make_room_for_two(device: Device) -> None:
    """The old model still loads after a failed swap, and the next push comes."""
    fail_within_the_gap(device)
    again = device.worker
    assert again.spec.assignment == "a-1"
    device.push("3.0.0", "a-3", 3, when_tight=WhenTight.GAP)
    device.reach(S.SELF_TESTING)
    device.run(1.0)
    assert (device.worker is again, again.done) == (True, ["drain"])
    again.exit(0)
    device.run(2.0)
    device.soak()
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.outcomes[2:] == [("succeeded", "a-3")]
    assert int(device.saved.evidence["gap_ms"] or 0) >= 6000, "nothing answered since the first one"


def test_without_that_policy_the_old_worker_stays(device: Device) -> None:
    old, device.tight = device.worker, True
    device.push("2.0.0", "a-2", 2)
    device.reach(S.SELF_TESTING)
    device.run(1.0)
    assert old.done == ["serve"]


def test_a_worker_that_says_that_it_failed_and_stays_is_ended(device: Device) -> None:
    stuck = device.worker
    stuck.say(Failed(failure=Failure(code="worker.model.rejected", message="no")))
    device.run(4.0)
    assert device.agent.workers.active is stuck
    device.run(3.0)
    assert device.agent.workers.active is not stuck
    report = device.agent.workers.report
    assert report is not None
    assert report.failure is not None
    assert report.failure.code == "worker.model.rejected", "what it said, not how it ended"
