"""Telemetry rows: bounded, whatever a model has for classes."""

import msgspec
import pytest

from fleet_agent.bootstrap import choose_interval_s
from fleet_agent.rows import OTHER, bound_classes, model_row, outcome_row
from fleet_agent.telemetry.clock import Stamp
from fleet_agent.worker.protocol import Stats
from fleet_shared.limits import CLASS_CHARS, CLASSES_PER_SAMPLE
from fleet_shared.messages.reported import Running
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
    assert bound_classes({long + "1": 1, long + "2": 2}) == {f"{'x' * (CLASS_CHARS - 1)}…": 3}


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
    [(10, None, 10), (10, 5, 2.5), (10, 60, 10), (10, 0.2, 1), (0.5, 1, 0.5)],
)
def test_a_worker_on_trial_reports_within_its_soak(
    usual_s: float, trial_s: float | None, expected_s: float
) -> None:
    assert choose_interval_s(usual_s, trial_s) == expected_s
