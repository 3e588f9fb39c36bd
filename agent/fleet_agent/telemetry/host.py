"""Readings of the machine, through psutil. Each value has its unit in its name."""

import os
from pathlib import Path

import psutil


def read_host(state_folder: Path) -> dict[str, float]:
    """Return what can be read now; ``temperature_c`` only where there is a sensor.

    ``cpu_percent`` is over the time since the last call, all cores together.
    """
    memory = psutil.virtual_memory()
    disk = psutil.disk_usage(str(state_folder))
    values: dict[str, float] = {
        "cpu_percent": psutil.cpu_percent(),
        "load_1min": os.getloadavg()[0],
        "memory_used_bytes": memory.total - memory.available,
        "memory_total_bytes": memory.total,
        "disk_used_bytes": disk.used,
        "disk_free_bytes": disk.free,
        "agent_rss_bytes": psutil.Process().memory_info().rss,
    }
    temperature = read_temperature_c()
    return values if temperature is None else {**values, "temperature_c": temperature}


def read_temperature_c() -> float | None:
    """Return the hottest sensor's reading, or none where there is no sensor."""
    read = getattr(psutil, "sensors_temperatures", None)
    found = [entry.current for entries in read().values() for entry in entries] if read else []
    return max(found) if found else None
