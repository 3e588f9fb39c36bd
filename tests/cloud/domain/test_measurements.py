"""What measurements say about like devices, and what they change about the choice of a variant."""

from dataclasses import replace
from functools import partial

import msgspec
import pytest

from fleet_cloud.domain.measurements import (
    Detail,
    Measurement,
    describe_hardware,
    describe_version,
    find_latencies,
    read_row,
)
from fleet_cloud.domain.variants import choose_variant
from fleet_shared.messages.reported import Facts, RuntimeFact
from fleet_shared.names import DeviceId, Digest, VariantName
from tests.cloud.domain.test_rules import FACTS, PI, chosen, variant, version

LITERT = FACTS.runtimes[0]
TFLITE = RuntimeFact(name="tflite_runtime", version="2.14.0")
SMALL, LARGE = variant("int8", 25), variant("fp32", 100)
TWO = version(SMALL, LARGE)
DETAIL: Detail = {
    "runtime": "litert", "threads": 2, "manifest": SMALL.digest, "passed": True, "latency_p50_us": 81.5,
}  # fmt: skip


def measured(manifest: Digest, p50_us: float | None, **changes: object) -> Measurement:
    one = Measurement(
        hardware=describe_hardware(FACTS), runtime="litert", runtime_version="2.3", threads=1,
        manifest=manifest, passed=p50_us is not None, latency_p50_us=p50_us, device=DeviceId("other"),
        measured_ms=1,
    )  # fmt: skip
    return replace(one, **changes)  # type: ignore[arg-type]


def choose(*measurements: Measurement, facts: Facts = FACTS, device: str = "this") -> str:
    return chosen(choose_variant(TWO, facts, None, measurements, DeviceId(device)))


def test_a_row_of_a_benchmark_is_read() -> None:
    assert read_row(DETAIL, FACTS, PI, SMALL.digest, 7) == Measurement(
        hardware="aarch64, aarch64, 4 processors", runtime="litert", runtime_version="2.3", threads=2,
        manifest=SMALL.digest, passed=True, latency_p50_us=81.5, device=PI, measured_ms=7,
    )  # fmt: skip
    failed = read_row({**DETAIL, "latency_p50_us": None, "passed": True}, FACTS, PI, SMALL.digest, 7)
    assert failed is not None
    assert not failed.passed, "what did not run did not pass"


@pytest.mark.parametrize(
    "change",
    [
        {"runtime": "abacus"}, {"runtime": None}, {"runtime": 3}, {"threads": 0}, {"threads": 257},
        {"threads": "1"}, {"threads": True},
        {"manifest": "0" * 64}, {"latency_p50_us": 0}, {"latency_p50_us": -1.0},
        {"latency_p50_us": "1"}, {"latency_p50_us": True}, {"latency_p50_us": float("inf")},
        {"latency_p50_us": float("nan")},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_no_measurement(change: Detail) -> None:
    assert read_row({**DETAIL, **change}, FACTS, PI, SMALL.digest, 7) is None


def test_hardware_is_a_kind_of_board_with_its_processors() -> None:
    pi = msgspec.structs.replace(FACTS, hardware="Raspberry Pi 4 Model B Rev 1.4")
    assert describe_hardware(pi) == "Raspberry Pi 4 Model B Rev 1.4, aarch64, 4 processors"
    nul = msgspec.structs.replace(pi, hardware="a\0b", machine="aarch\0" + "64")  # PostgreSQL stores none
    assert describe_hardware(nul) == "ab, aarch64, 4 processors"
    assert len(describe_hardware(msgspec.structs.replace(pi, hardware="x" * 1000)).encode()) <= 200


@pytest.mark.parametrize(
    ("text", "short"), [("2.14.0.post1", "2.14"), ("2", "2"), ("2.x", "2"), ("", ""), ("nightly", "")]
)
def test_versions_are_compared_by_major_and_minor(text: str, short: str) -> None:
    assert describe_version(text) == short


def test_only_like_devices_count_and_the_best_row_that_passed() -> None:
    rows = [
        measured(SMALL.digest, 9.0), measured(SMALL.digest, 5.0, threads=4),
        measured(SMALL.digest, 1.0, passed=False), measured(SMALL.digest, 2.0, hardware="a Jetson"),
        measured(SMALL.digest, 2.0, runtime_version="2.2"), measured(SMALL.digest, 2.0, runtime="openvino"),
        measured(LARGE.digest, None), measured(LARGE.digest, None, device=DeviceId("another")),
    ]  # fmt: skip
    assert find_latencies(rows, FACTS) == {SMALL.digest: 5.0, LARGE.digest: float("inf")}


def test_the_faster_of_two_measured_ones_wins_against_the_smaller_file() -> None:
    assert choose() == "int8"
    assert choose(measured(SMALL.digest, 9.0), measured(LARGE.digest, 3.0)) == "fp32"
    assert choose(measured(SMALL.digest, 3.0), measured(LARGE.digest, 9.0)) == "int8"
    assert choose(measured(SMALL.digest, 3.0), measured(LARGE.digest, 3.0)) == "int8", "a draw"


def test_a_winner_that_nobody_measured_stays() -> None:
    assert choose(measured(LARGE.digest, 3.0)) == "int8"
    assert choose(measured(SMALL.digest, 9.0)) == "int8"


def test_what_passed_nowhere_is_no_choice_while_there_is_another() -> None:
    own = partial(choose, device="other")
    assert own(measured(SMALL.digest, None)) == "fp32"
    assert own(measured(SMALL.digest, 1.0, passed=False)) == "fp32"
    assert own(measured(SMALL.digest, None), measured(LARGE.digest, None)) == "int8"
    one_works = [measured(SMALL.digest, None), measured(SMALL.digest, 4.0, threads=2)]
    assert choose(*one_works, measured(LARGE.digest, 5.0)) == "int8"


def test_one_device_takes_no_variant_from_its_like() -> None:
    """It would never be contradicted: nobody like it would get the variant again."""
    failed = measured(SMALL.digest, None)
    assert choose(failed) == "int8"
    assert choose(failed, measured(SMALL.digest, None, device=DeviceId("another"))) == "fp32"
    assert choose(failed, measured(SMALL.digest, 4.0, device=DeviceId("another"))) == "int8"


def test_of_several_devices_the_middle_counts_and_of_its_own_word_nothing_else() -> None:
    said = [
        measured(SMALL.digest, p50_us, device=DeviceId(name))
        for name, p50_us in (("liar", 0.001), ("one", 9.0), ("two", 10.0))
    ]
    assert find_latencies(said, FACTS) == {SMALL.digest: 9.0}
    assert find_latencies(said[:2], FACTS) == {SMALL.digest: 0.001}
    assert find_latencies(said, FACTS, DeviceId("two")) == {SMALL.digest: 10.0}
    assert choose(*said, measured(LARGE.digest, 5.0)) == "fp32", "the liar does not win"


def test_accuracy_still_comes_first_and_a_forced_variant_is_forced() -> None:
    fast_and_poor = variant("poor", 10, 0.5)
    three = version(SMALL, LARGE, fast_and_poor)
    rows = [measured(SMALL.digest, 9.0), measured(LARGE.digest, 8.0), measured(fast_and_poor.digest, 0.1)]
    assert chosen(choose_variant(three, FACTS, None, rows)) == "fp32"
    assert chosen(choose_variant(three, FACTS, VariantName("int8"), rows)) == "int8"


def test_a_runtime_that_the_device_has_not_says_nothing() -> None:
    elsewhere = measured(LARGE.digest, 3.0, runtime="tflite_runtime", runtime_version="2.14")
    rows = [measured(SMALL.digest, 9.0), elsewhere]
    assert choose(*rows) == "int8"
    both = msgspec.structs.replace(FACTS, runtimes=(LITERT, TFLITE))
    assert choose(*rows, facts=both) == "fp32"
