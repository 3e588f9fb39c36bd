"""Gates hold at their boundary and fail closed."""

import math

import pytest

from fleet_cloud.factory.gates import Judged, Measured, find_failures, judge_gates
from fleet_cloud.factory.recipe import Gates

GOOD = Measured(
    size_bytes=1000, accuracy=0.9, accuracy_drop=0.25, agreement=0.95, latency_us=80.0, memory_bytes=4000
)


@pytest.mark.parametrize(
    ("gates", "failed"),
    [
        (Gates(), []),
        (Gates(accuracy_min=0.9), []),
        (Gates(accuracy_min=0.9001), ["accuracy_min"]),
        (Gates(accuracy_drop_max=0.25), []),
        (Gates(accuracy_drop_max=0.2499), ["accuracy_drop_max"]),
        (Gates(agreement_min=0.95), []),
        (Gates(agreement_min=0.96), ["agreement_min"]),
        (Gates(size_max_bytes=1000), []),
        (Gates(size_max_bytes=999), ["size_max_bytes"]),
        (Gates(latency_max_us=80.0), []),
        (Gates(latency_max_us=79.9), ["latency_max_us"]),
        (Gates(memory_max_bytes=4000), []),
        (Gates(memory_max_bytes=3999), ["memory_max_bytes"]),
        (Gates(accuracy_min=math.nan), ["accuracy_min"]),
        (Gates(accuracy_drop_max=math.nan), ["accuracy_drop_max"]),
        (Gates(accuracy_min=1.0, size_max_bytes=1), ["accuracy_min", "size_max_bytes"]),
    ],
)
def test_gates(gates: Gates, failed: list[str]) -> None:
    assert [failure.gate for failure in find_failures(gates, GOOD)] == failed


def test_all_gates_are_told_held_or_not() -> None:
    found = judge_gates(Gates(accuracy_min=0.95, latency_max_us=80.0), GOOD)
    assert found == [Judged("accuracy_min", 0.95, 0.9, False), Judged("latency_max_us", 80.0, 80.0, True)]
    assert judge_gates(Gates(), GOOD) == []


STRICT = Gates(
    accuracy_min=0.0, accuracy_drop_max=1.0, agreement_min=0.0, latency_max_us=1e9, memory_max_bytes=10**9
)


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_what_is_unknown_or_no_number_holds_no_gate(unknown: float | None) -> None:
    found = Measured(
        size_bytes=1, accuracy=unknown, accuracy_drop=unknown, agreement=unknown, latency_us=unknown
    )
    assert [failure.gate for failure in find_failures(STRICT, found)] == [
        "accuracy_min",
        "accuracy_drop_max",
        "agreement_min",
        "latency_max_us",
        "memory_max_bytes",
    ]


def test_a_failure_says_what_was_found_and_by_how_much_it_is_missed() -> None:
    failures = find_failures(Gates(accuracy_min=0.95, size_max_bytes=400), GOOD)
    assert [failure.why for failure in failures] == [
        "validation accuracy 0.9000 is below accuracy_min 0.9500 by 0.0500",
        "the file's size 1 000 bytes is above size_max_bytes 400 bytes by 600 bytes",
    ]
    (unknown,) = find_failures(Gates(memory_max_bytes=5), Measured(size_bytes=1))
    assert unknown.why == "the memory it needs is unknown, and memory_max_bytes is 5 bytes"
