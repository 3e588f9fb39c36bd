"""The trial time after a switch, by itself."""

import pytest

from fleet_agent.update.latency import Latency, LatencyWindows, Measured
from fleet_agent.update.soak import SILENT_AFTER_S, Soak, is_too_many, lower_bound
from fleet_agent.worker.protocol import Stats
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Failure
from fleet_shared.names import AssignmentId
from tests.kit.device_edges import make_stats

CRASH = Failure(code="worker.crashed", message="it crashed")
LEAK = Failure(code="worker.memory", message="it leaks")


def window(requests: int, p50_us: float | None, errors: int = 0) -> Stats:
    return Stats(
        window_ms=1000, requests=requests, errors=errors, latency_p50_us=p50_us, latency_p90_us=p50_us,
        latency_p99_us=p50_us, labelled=0, correct=0, classes={}, rss_bytes=1000,
    )  # fmt: skip


def begun(policy: Policy, before: Latency | None = None) -> Soak:
    soak = Soak(policy, before)
    soak.begin(0.0)
    return soak


def test_a_soak_needs_its_time_and_a_measurement_since_the_worker_serves() -> None:
    soak = Soak(Policy(soak_s=5.0))
    assert not soak.is_over(1_000.0)
    assert soak.judge(make_stats()) is None, "measured before it served: it counts for nothing"
    assert soak.requests == 0
    soak.begin(100.0)
    assert not soak.is_over(1_000.0)
    assert soak.judge(make_stats()) is None
    assert not soak.is_over(104.9)
    assert soak.is_over(105.0)
    assert not soak.is_silent(1_000.0)


def test_a_worker_that_measures_nothing_is_silent_some_time_after_its_trial() -> None:
    soak = Soak(Policy(soak_s=5.0))
    assert not soak.is_silent(1_000.0), "it does not serve yet: another limit looks at that"
    soak.begin(100.0)
    assert not soak.is_silent(104.9 + SILENT_AFTER_S)
    assert soak.is_silent(105.0 + SILENT_AFTER_S)


def test_a_soak_needs_its_inferences_too_and_says_so_when_the_deadline_comes_first() -> None:
    soak = begun(Policy(soak_s=5.0, soak_inferences=100, deadline_s=60))
    assert soak.judge(make_stats(99)) is None
    assert not soak.is_over(50.0)
    late = soak.explain_late()
    assert late is not None
    assert late.code == "soak.inferences"
    assert late.message.startswith("99 of 100 inferences")
    assert soak.judge(make_stats(1)) is None
    assert soak.is_over(50.0)
    assert soak.explain_late() is None, "then the deadline has another reason"


@pytest.mark.parametrize(
    ("errors", "requests", "allowed", "too_many"),
    [
        (0, 0, 0.1, False),
        (0, 100, 0.1, False),
        (10, 100, 0.1, False),  # exactly what is allowed
        (11, 100, 0.1, True),
        (1, 10, 0.1, False),
        (2, 10, 0.1, True),
        (2, 9, 0.1, False),  # too few to be a rate
        (1, 1, 0.1, True),  # all of them
        (1, 2, 0.1, False),
        (1, 2, 0.0, True),  # none is allowed
        (5, 5, 1.0, False),
    ],
)
def test_errors_of_a_whole_trial(errors: int, requests: int, allowed: float, too_many: bool) -> None:
    assert is_too_many(errors, requests, allowed) is too_many
    soak = begun(Policy(soak_s=1.0, error_rate_max=allowed))
    soak.judge(window(requests, 100.0, errors))
    failure = soak.conclude()
    assert (failure.code if failure else None) == ("soak.errors" if too_many else None)


@pytest.mark.parametrize(
    ("errors", "requests", "low"),
    # The published values of the score interval at 95 %: 0 of n is 0, 5 of 10 begins at 0.2366.
    [(0, 10, 0.0), (5, 10, 0.2366), (10, 10, 0.7225), (1, 10, 0.0179), (81, 263, 0.2553)],
)
def test_the_lower_end_of_the_interval(errors: int, requests: int, low: float) -> None:
    assert lower_bound(errors, requests) == pytest.approx(low, abs=5e-5)


@pytest.mark.parametrize(
    ("errors", "requests", "certain"),
    [(5, 5, True), (4, 4, False), (2, 10, False), (3, 10, True), (15, 100, False), (20, 100, True)],
)
def test_a_trial_ends_early_only_when_it_is_certain(errors: int, requests: int, certain: bool) -> None:
    soak = begun(Policy(soak_s=100.0, error_rate_max=0.1))
    assert (soak.judge(window(requests, 100.0, errors)) is not None) is certain


def test_errors_are_counted_over_all_windows() -> None:
    soak = begun(Policy(soak_s=100.0, error_rate_max=0.1))
    assert soak.judge(window(100, 1.0)) is None
    assert soak.judge(window(12, 1.0, errors=12)) is None, "12 of 112 are not certainly more than a tenth"
    failure = soak.conclude()
    assert failure is not None
    assert failure.message == "12 of 112 inferences of the trial failed, 10.0% may"


BEFORE = Latency(p50_us=100.0, requests=50)


@pytest.mark.parametrize(
    ("before", "now_us", "requests", "allowed", "code", "judged"),
    [
        (BEFORE, 200.0, 50, 2.0, None, "yes"),  # exactly what is allowed
        (BEFORE, 201.0, 50, 2.0, "soak.latency", "yes"),
        (BEFORE, 900.0, 50, None, None, "no bound is given"),
        (BEFORE, 900.0, 9, 2.0, None, "the trial had too few requests"),
        (None, 900.0, 50, 2.0, None, "the previous version answered too few requests to compare with"),
        (
            Latency(p50_us=1.0, requests=9), 900.0, 50, 2.0, None,
            "the previous version answered too few requests to compare with",
        ),
    ],
)  # fmt: skip
def test_latency_against_the_previous_version(
    before: Latency | None, now_us: float, requests: int, allowed: float | None, code: str | None, judged: str
) -> None:
    soak = begun(Policy(soak_s=1.0, latency_ratio_max=allowed), before)
    soak.judge(window(requests, now_us))
    failure = soak.conclude()
    assert (failure.code if failure else None) == code
    assert soak.evidence["soak_latency_judged"] == judged


def test_the_evidence_says_what_was_seen_and_what_was_allowed() -> None:
    policy = Policy(soak_inferences=20, latency_ratio_max=2.0, worker_restarts_max=1, memory_bytes_max=10**8)
    soak = begun(policy, BEFORE)
    soak.judge(window(30, 150.0, errors=1))
    assert soak.evidence == {
        "soak_requests": 30, "soak_requests_min": 20, "soak_errors": 1, "soak_error_rate_max": 0.1,
        "soak_latency_p50_us": 150.0, "soak_latency_before_p50_us": 100.0, "soak_latency_before_requests": 50,
        "soak_latency_ratio": 1.5, "soak_latency_ratio_max": 2.0, "soak_latency_judged": "yes",
        "soak_restarts": 0, "soak_restarts_max": 1, "soak_rss_max_bytes": 1000,
        "soak_memory_bytes_max": 10**8,
    }  # fmt: skip


def test_a_worker_may_be_restarted_as_often_as_the_policy_says() -> None:
    soak = begun(Policy(soak_s=5.0, worker_restarts_max=2))
    soak.judge(make_stats())
    assert soak.lose(CRASH) is None
    assert not soak.is_over(100.0), "nobody serves"
    soak.begin(50.0)
    assert not soak.is_over(100.0), "it measured nothing since"
    soak.judge(make_stats())
    assert soak.is_over(100.0), "the time counts from the first time that it served"
    assert soak.lose(CRASH) is None
    failure = soak.lose(CRASH)
    assert failure is not None
    assert failure.code == "worker.crashed"
    assert failure.message.startswith("the worker ended 3 times in its trial, 2 restarts are allowed")


def test_no_restart_is_allowed_by_default_and_none_for_memory() -> None:
    assert begun(Policy()).lose(CRASH) == CRASH
    assert begun(Policy(worker_restarts_max=5)).lose(LEAK) == LEAK


def test_the_median_of_windows_counts_their_requests() -> None:
    windows = LatencyWindows()
    assert windows.median is None
    windows.add(window(0, None))
    windows.add(window(5, None, errors=5))
    assert windows.median is None
    for requests, p50_us in ((10, 100.0), (1, 5000.0), (10, 120.0)):
        windows.add(window(requests, p50_us))
    assert windows.median == Latency(p50_us=120.0, requests=21)


def test_what_was_measured_belongs_to_one_assignment_and_outlives_a_failed_trial() -> None:
    measured, a, b, c = Measured(), AssignmentId("a"), AssignmentId("b"), AssignmentId("c")
    measured.add(a, window(10, 100.0))
    assert measured.get(b) is None
    measured.add(b, window(3, 200.0))
    measured.add(a, window(5, 100.0))
    assert measured.get(a) == Latency(p50_us=100.0, requests=15)
    measured.add(c, window(1, 300.0))
    assert measured.get(b) is None, "older than active and previous"
    assert measured.get(a) == Latency(p50_us=100.0, requests=15)
