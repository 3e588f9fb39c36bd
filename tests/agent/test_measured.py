"""What a benchmark within an update changes about it: the runtime and the threads that serve."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fleet_agent.update.measured import take_fastest
from fleet_agent.update.record import Evidence
from tests.agent.test_plan import started
from tests.kit.device import Device


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    one = Device(tmp_path)
    yield one
    one.close()


@pytest.mark.parametrize(
    ("evidence", "chosen"),
    [
        ({}, ("litert", None)),
        ({"benchmark_rows": 4, "benchmark_passed": 0}, ("litert", None)),
        ({"benchmark_runtime": "openvino", "benchmark_threads": 4}, ("openvino", 4)),
        ({"benchmark_runtime": "openvino"}, ("litert", None)),
        ({"benchmark_runtime": None, "benchmark_threads": 4}, ("litert", None)),
    ],
)
def test_the_fastest_becomes_the_target(evidence: Evidence, chosen: tuple[str, int | None]) -> None:
    record = msgspec.structs.replace(started(), evidence=evidence)
    taken = take_fastest(record)
    assert (taken.target.runtime, taken.target.threads) == chosen
    assert take_fastest(taken) == taken
    assert msgspec.structs.replace(taken, target=record.target) == record, "nothing else changes"


def test_what_was_measured_serves_and_is_in_the_outcome(device: Device) -> None:
    device.boot()
    device.jobs.measured = {"benchmark_runtime": "openvino", "benchmark_threads": 2, "benchmark_p50_us": 7.5}
    device.install("1.0.0", "a1", 1)
    assert device.worker.spec.runtime == "openvino"
    active = device.slots.load_pointers().active
    assert active is not None
    assert (active.runtime, active.threads) == ("openvino", 2)
    (outcome,) = [event for event in device.events if event.name == "update.succeeded"]
    assert outcome.detail["runtime"] == "openvino"
    assert outcome.detail["benchmark_p50_us"] == 7.5
    device.crash()
    device.boot()
    assert device.worker.spec.runtime == "openvino"
    assert device.state() is not None
