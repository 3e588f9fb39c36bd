"""Readings of the machine, through psutil, and what its board adds. Each value has its unit in its name."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import psutil

from fleet_agent.telemetry.board import read_board
from fleet_agent.telemetry.reading import read_or

NOTHING: Final[Mapping[str, float]] = MappingProxyType({})


def read_host(state_folder: Path) -> dict[str, float]:
    """Return what can be read now: a reading that this machine does not give is left out.

    ``cpu_percent`` is over the time since the last call, all cores together; ``temperature_c`` is
    that of the hottest sensor.
    """
    single: dict[str, float | None] = {
        "cpu_percent": read_or(None, psutil.cpu_percent),
        "load_1min": read_or(None, lambda: os.getloadavg()[0]),
        "agent_rss_bytes": read_or(None, lambda: psutil.Process().memory_info().rss),
        "temperature_c": read_temperature_c(),
    }
    known = {name: value for name, value in single.items() if value is not None and math.isfinite(value)}
    machine = (_read_memory, lambda: _read_disk(state_folder), read_board)
    for read in machine:
        known.update(read_or(NOTHING, read))
    return known


def read_temperature_c() -> float | None:
    """Return the hottest sensor's reading, or none where there is no sensor."""
    return read_or(None, _read_hottest)


def read_available_bytes() -> int | None:
    """Return the memory that could be used without swapping, or none where that cannot be read."""
    return read_or(None, lambda: int(psutil.virtual_memory().available))


def _read_hottest() -> float | None:
    # Not there on every platform. A sensor that is switched off has no current reading.
    entries = [entry.current for sensor in psutil.sensors_temperatures().values() for entry in sensor]
    found = [current for current in entries if isinstance(current, int | float) and math.isfinite(current)]
    return max(found, default=None)


def _read_memory() -> Mapping[str, float]:
    memory = psutil.virtual_memory()
    return {"memory_used_bytes": memory.total - memory.available, "memory_total_bytes": memory.total}


def _read_disk(folder: Path) -> Mapping[str, float]:
    disk = psutil.disk_usage(str(folder))
    return {"disk_used_bytes": disk.used, "disk_free_bytes": disk.free}
