"""What time it is, and whether that can be believed. A Pi without a clock boots in 1970."""

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet_shared.messages.telemetry import Clock

BUILT_S: Final = 1_767_225_600
"""2026-01-01: no wall clock before this is right."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_STA_UNSYNC: Final = 0x0040


@dataclass(frozen=True)
class Stamp:
    """A moment: ``boot_ms`` since boot ``boot_id`` (including sleep), ``wall_ms`` since 1970 or
    none while the wall clock cannot be believed."""

    boot_id: str
    boot_ms: int
    wall_ms: int | None
    clock: Clock


class DeviceClock:
    def __init__(self) -> None:
        self.boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "unknown"

    def boot_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> Stamp:
        clock = load_clock_state()
        wall_s = time.time()
        believed = clock is not Clock.UNSYNCED and wall_s > BUILT_S
        return Stamp(
            boot_id=self.boot_id,
            boot_ms=int(self.boot_s() * 1000),
            wall_ms=int(wall_s * 1000) if believed else None,
            clock=clock if believed else Clock.UNSYNCED,
        )


class _Timex(ctypes.Structure):
    # struct timex of adjtimex(2); only `status` is read, the rest is room.
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def load_clock_state() -> Clock:
    """Ask the kernel whether something keeps its clock in step (adjtimex(2), STA_UNSYNC).

    Unknown where it cannot be asked, and in containers and virtual machines whose host keeps the
    time without saying so: there the kernel reports unsynchronised with a plausible year.
    """
    timex = _Timex()
    try:
        result = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return Clock.UNKNOWN
    if result < 0:
        return Clock.UNKNOWN
    if not timex.status & _STA_UNSYNC:
        return Clock.SYNCED
    return Clock.UNKNOWN if time.time() > BUILT_S else Clock.UNSYNCED
