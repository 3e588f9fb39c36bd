"""Checks of the machine: clock, disk, memory, temperature, power, service. Rules apart from the looking."""

import os
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from fleet_agent.doctor.finding import Found, attention, failed, ok, skipped
from fleet_agent.floor import load_floor_ms
from fleet_agent.paths import StatePaths
from fleet_agent.settings import Settings
from fleet_agent.telemetry.board import name_flags, read_throttling
from fleet_agent.telemetry.clock import DeviceClock, Stamp
from fleet_agent.telemetry.host import read_host
from fleet_shared.limits import MIB
from fleet_shared.messages.telemetry import Clock

HOT_C: Final = 80.0
"""A Raspberry Pi slows down from here on, a Jetson a little later."""
MEMORY_FREE_BYTES: Final = 48 * MIB
"""About what one more worker needs to begin with."""
INODES_FREE: Final = 200
SYSTEMCTL_TIMEOUT_S: Final = 10.0


def check_clock(paths: StatePaths) -> Found:
    floor_ms = load_floor_ms(paths.floor)
    return judge_clock_stamp(DeviceClock(lambda: floor_ms).now(), floor_ms)


def judge_clock_stamp(stamp: Stamp, floor_ms: int) -> Found:
    hint = (
        "is a time server reachable? timedatectl; until then documents are judged by the newest signed time"
    )
    if stamp.wall_ms is None:
        known = f"; it is at least {_date(floor_ms)}" if floor_ms else ""
        return attention(f"the wall clock cannot be believed{known}", hint)
    if stamp.clock is Clock.UNKNOWN:
        return ok(
            f"{_date(stamp.wall_ms)} UTC, kept by this machine's own clock or its host's; "
            "no time server confirms it"
        )
    return ok(f"{_date(stamp.wall_ms)} UTC, in step with a time server")


def check_disk(settings: Settings) -> Found:
    folder = settings.state
    try:
        disk = os.statvfs(folder)
    except FileNotFoundError:
        return skipped(f"there is no state folder {folder} yet")
    except OSError as exc:
        return failed(f"{folder} cannot be looked at: {exc}", "run it as root or as the user of the agent")
    free = disk.f_bavail * disk.f_frsize
    read_only = bool(disk.f_flag & os.ST_RDONLY)
    writable = os.access(folder, os.W_OK)
    inodes = disk.f_favail if disk.f_files else None  # some file systems do not count them
    return judge_disk(
        folder, free, settings.disk_margin_bytes, inodes, read_only=read_only, writable=writable
    )


def judge_disk(
    folder: Path, free_bytes: int, margin_bytes: int, inodes: int | None, *, read_only: bool, writable: bool
) -> Found:
    if read_only:
        return failed(
            f"the file system of {folder} is read-only",
            "a worn or damaged card is mounted so: look at dmesg, replace it",
        )
    if not writable:
        return failed(
            f"{folder} cannot be written by this user", f"it must belong to the agent's user: ls -ld {folder}"
        )
    if free_bytes < margin_bytes:
        return failed(
            f"{_size(free_bytes)} free, less than the margin of {_size(margin_bytes)}: no update comes in",
            "free space, or set disk_margin_bytes lower",
        )
    if inodes is not None and inodes < INODES_FREE:
        return failed(f"only {inodes} more files fit", "remove small files")
    return ok(f"{_size(free_bytes)} free at {folder}, writable")


def check_memory(settings: Settings) -> Found:
    return judge_memory(read_host(settings.state))


def judge_memory(readings: dict[str, float]) -> Found:
    if "memory_total_bytes" not in readings:
        return skipped("this machine does not tell its memory")
    total = readings["memory_total_bytes"]
    free = total - readings["memory_used_bytes"]
    words = f"{_size(free)} of {_size(total)} free"
    if free < MEMORY_FREE_BYTES:
        return attention(
            f"{words}: an update may not start a second worker", "what else runs here? ps aux --sort -rss"
        )
    return ok(words)


def check_temperature(settings: Settings) -> Found:
    return judge_temperature(read_host(settings.state).get("temperature_c"))


def judge_temperature(temperature_c: float | None) -> Found:
    if temperature_c is None:
        return skipped("this machine has no sensor")
    if temperature_c >= HOT_C:
        return attention(f"{temperature_c:.0f} °C: it slows down to cool", "a heat sink or a fan; more air")
    return ok(f"{temperature_c:.0f} °C")


def check_power() -> Found:
    return judge_power(read_throttling())


def judge_power(bits: int | None) -> Found:
    if bits is None:
        return skipped("this is no Raspberry Pi, or its firmware may not be asked")
    raised = [name.replace("_", " ") for name, value in name_flags(bits).items() if value]
    if not raised:
        return ok("enough, since boot")
    hint = "a stronger power supply, a shorter cable" if bits & 0x10001 else "a heat sink or a fan"
    return attention(", ".join(raised), hint)


def check_service() -> Found:
    if not Path("/run/systemd/system").is_dir() or (command := shutil.which("systemctl")) is None:
        return skipped("systemd does not run here")
    words = [command, "show", "fleet-agent.service", "-p", "LoadState,ActiveState,UnitFileState,NRestarts"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SYSTEMCTL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return skipped(f"systemd cannot be asked: {exc}")
    return judge_service(dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line))


def judge_service(properties: dict[str, str]) -> Found:
    if properties.get("LoadState") != "loaded":
        return skipped("there is no unit fleet-agent.service; deploy/install/install.sh installs it")
    state, restarts = properties.get("ActiveState", ""), properties.get("NRestarts", "0")
    if state != "active":
        return failed(
            f"the service is {state or 'in no known state'}",
            "journalctl -u fleet-agent; systemctl start fleet-agent",
        )
    if properties.get("UnitFileState") not in ("enabled", None, ""):
        return attention("it runs, and will not after the next boot", "systemctl enable fleet-agent")
    if restarts not in ("0", ""):
        return attention(f"it runs, after {restarts} restarts", "journalctl -u fleet-agent")
    return ok("it runs")


def _date(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def _size(size_bytes: float) -> str:
    gib = size_bytes / 2**30
    return f"{size_bytes / 2**20:.0f} MiB" if gib < 10 else f"{gib:.0f} GiB"
