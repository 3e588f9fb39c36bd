"""Telemetry rows: bounded, whatever a model has for classes."""

import msgspec
import pytest

from fleet_agent.bootstrap import plan_trial
from fleet_agent.leash import Terms
from fleet_agent.rows import OTHER, bound_classes, model_row, outcome_row
from fleet_agent.telemetry.clock import Stamp
from fleet_agent.worker.interval import Interval
from fleet_agent.worker.protocol import Stats, WorkerSpec
from fleet_shared.limits import CLASS_NAME_BYTES, CLASSES_PER_SAMPLE
from fleet_shared.messages.reported import Failure, Running
from fleet_shared.messages.telemetry import Clock, encode_row
from fleet_shared.names import AssignmentId, Digest, ModelName, VariantName
from tests.agent.test_install import record as make_record


def test_the_most_frequent_classes_are_named_and_no_count_is_lost() -> None:
    counts = {f"class-{number}": number for number in range(1, 1001)}
    bounded = bound_classes(counts)
    assert len(bounded) == CLASSES_PER_SAMPLE
    assert sum(bounded.values()) == sum(counts.values())
    assert bounded["class-1000"] == 1000
    assert bounded[OTHER] == sum(range(1, 1001 - (CLASSES_PER_SAMPLE - 1)))


def test_a_class_that_is_called_other_is_not_lost_among_the_others() -> None:
    counts = {f"class-{number}": 1 for number in range(100)} | {OTHER: 5}
    bounded = bound_classes(counts)
    assert len(bounded) == CLASSES_PER_SAMPLE
    assert sum(bounded.values()) == 105


def test_few_classes_stay_as_they_are() -> None:
    counts = {f"class-{number}": number for number in range(CLASSES_PER_SAMPLE)}
    assert bound_classes(counts) == counts


def test_long_names_are_clipped_and_counted_together() -> None:
    long = "x" * 1000
    assert bound_classes({long + "1": 1, long + "2": 2}) == {f"{'x' * (CLASS_NAME_BYTES - 3)}…": 3}


def test_a_thousand_classes_fit_a_row() -> None:
    stats = Stats(
        window_ms=1000, requests=1, errors=0, latency_p50_us=None, latency_p90_us=None, latency_p99_us=None,
        labelled=0, correct=0, classes={f"{'name ' * 50}{number}": 1 for number in range(1000)}, rss_bytes=1,
    )  # fmt: skip
    running = Running(
        model=ModelName("m"), version="1.0.0", variant=VariantName("v"), manifest=Digest("a" * 64),
        assignment=AssignmentId("a"),
    )  # fmt: skip
    assert encode_row(model_row(Stamp("b", 1, None, Clock.UNSYNCED), running, stats))


def test_an_outcome_always_fits_a_row() -> None:
    record = msgspec.structs.replace(make_record(), evidence={"runtime_version": "1" * 100_000})
    assert encode_row(outcome_row(Stamp("b", 1, None, Clock.UNSYNCED), record))


@pytest.mark.parametrize(
    ("usual_s", "trial_s", "expected_s"),
    [(10, 5, 2.5), (10, 60, 10), (10, 0.2, 1), (0.5, 1, 0.5)],
)
def test_a_worker_on_trial_reports_within_its_soak(usual_s: float, trial_s: float, expected_s: float) -> None:
    trial = plan_trial(usual_s, Terms(trial_s))
    assert trial is not None
    assert trial.interval_s == expected_s
    assert trial.lasts_s == trial_s + 2 * expected_s
    assert plan_trial(usual_s, Terms()) is None


def test_a_worker_reports_at_its_usual_interval_once_the_trial_is_over() -> None:
    now_s = 100.0
    spec = WorkerSpec(
        slot="", manifest=Digest("0" * 64), assignment=AssignmentId("a"), runtime="litert", threads=1,
        listen_fds=(), stats_interval_s=600.0, linger_s=1.0, trial=plan_trial(600.0, Terms(5.0)),
    )  # fmt: skip
    interval = Interval(spec, lambda: now_s)
    assert interval.get_s() == 2.5
    interval.begin()
    now_s += 9.9
    assert interval.get_s() == 2.5
    now_s += 0.2
    assert interval.get_s() == 600.0


@pytest.mark.parametrize("character", ["\x01", "\U0001f600", '"', "\\", "\udcff", "é"])
def test_no_text_makes_an_outcome_too_long(character: str) -> None:
    text = character * 5000
    failure = Failure(code=text, message=text, hint=text)
    record = msgspec.structs.replace(make_record(), failure=failure)
    assert encode_row(outcome_row(Stamp("b", 1, None, Clock.UNSYNCED), record))
