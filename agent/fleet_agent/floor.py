"""What time it is on a machine without a clock: never before what was seen signed.

The floor is the largest verified issue time plus the time since, on the boot clock. After a
reboot the time without power is unknown and not counted.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fleet_shared.durable import write_durably

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class DeviceTime:
    """``now_ms``: what time it is at least, by which an end is judged (0: nobody knows). ``wall_ms``: the
    wall clock, none while it is not believed."""

    now_ms: int
    wall_ms: int | None


class Floor(msgspec.Struct, frozen=True):
    issued_ms: int
    boot_id: str
    boot_ms: int


def judge_time(file: Path, wall_ms: int | None) -> DeviceTime:
    """Return the time by which dates are judged; a wall clock before the floor is not believed."""
    now_ms = judge_now_ms(file, wall_ms)
    return DeviceTime(now_ms, wall_ms if wall_ms is not None and wall_ms >= now_ms else None)


def judge_now_ms(file: Path, wall_ms: int | None) -> int:
    """Return the wall clock if it is known and not before the floor, else the floor."""
    return max(wall_ms or 0, load_floor_ms(file))


def raise_floor(file: Path, issued_ms: int) -> None:
    """Remember a verified issue time, if it is later than what the floor says by now."""
    if issued_ms > load_floor_ms(file):
        write_durably(file, msgspec.json.encode(Floor(issued_ms, _boot_id(), _boot_ms())))


def load_floor_ms(file: Path) -> int:
    """Return the floor as it is by now; 0 without one."""
    try:
        floor = msgspec.json.decode(file.read_bytes(), type=Floor)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return 0  # no floor yet, or a damaged one: signatures still hold, only freshness is weaker
    since_ms = _boot_ms() - floor.boot_ms if floor.boot_id == _boot_id() else 0
    return floor.issued_ms + max(0, since_ms)


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "unknown"


def _boot_ms() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000)
