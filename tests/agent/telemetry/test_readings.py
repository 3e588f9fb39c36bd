"""Facts and readings of machines that hide some of them."""

import platform
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from fleet_agent.telemetry.facts import load_facts
from fleet_agent.telemetry.host import read_host, read_temperature_c
from fleet_shared.limits import FACT_BYTES
from fleet_shared.messages.reported import Reported, RuntimeFact
from fleet_shared.wire import encode

ALWAYS = {
    "cpu_percent", "load_1min", "memory_used_bytes", "memory_total_bytes", "disk_used_bytes",
    "disk_free_bytes", "agent_rss_bytes",
}  # fmt: skip


def failing(error: Exception) -> Callable[..., float]:
    def fail(*_args: object) -> float:
        raise error

    return fail


def test_a_whole_machine_is_read(tmp_path: Path) -> None:
    assert read_host(tmp_path).keys() >= ALWAYS


@pytest.mark.parametrize(
    "error",
    [PermissionError("no"), FileNotFoundError("/proc/meminfo"), ValueError("fields"), KeyError(b"MemTotal:"),
     IndexError("x"), NotImplementedError(), RuntimeError("x"), psutil.AccessDenied(1)],
)  # fmt: skip
@pytest.mark.parametrize(
    ("reading", "missing"),
    [
        ("virtual_memory", {"memory_used_bytes", "memory_total_bytes"}),
        ("disk_usage", {"disk_used_bytes", "disk_free_bytes"}),
        ("cpu_percent", {"cpu_percent"}),
        ("Process", {"agent_rss_bytes"}),
        ("sensors_temperatures", set()),
    ],
)
def test_a_reading_that_is_missing_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: str, missing: set[str], error: Exception
) -> None:
    monkeypatch.setattr(psutil, reading, failing(error))
    values = read_host(tmp_path)
    assert values.keys() & ALWAYS == ALWAYS - missing


@pytest.mark.parametrize(
    ("currents", "expected"),
    [([], None), ([41.5, 60.0], 60.0), ([None, 41.5], 41.5), ([None], None), ([float("nan"), 3.0], 3.0)],
)
def test_the_hottest_sensor_that_gives_a_number(
    monkeypatch: pytest.MonkeyPatch, currents: list[float | None], expected: float | None
) -> None:
    entries = {"cpu": [SimpleNamespace(current=current) for current in currents]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: entries, raising=False)
    assert read_temperature_c() == expected


def test_a_platform_without_sensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil, "sensors_temperatures", raising=False)
    assert read_temperature_c() is None


def test_facts_fit_the_report_whatever_the_machine_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 100_000)
    monkeypatch.setattr(platform, "machine", lambda: "m\0\udcff" + "m" * 1000)
    monkeypatch.setattr(psutil, "virtual_memory", failing(PermissionError("no")))
    monkeypatch.setattr(shutil, "disk_usage", failing(PermissionError("no")))
    facts = load_facts(tmp_path, (RuntimeFact(name="n" * 1000, version="v" * 1000),))
    assert (facts.memory_bytes, facts.disk_bytes) == (0, 0)
    texts = [facts.hostname, facts.machine, facts.runtimes[0].name, facts.runtimes[0].version]
    assert {len(text.encode()) for text in texts} == {FACT_BYTES}
    assert len(encode(Reported(session="s", facts=facts))) < 5000
