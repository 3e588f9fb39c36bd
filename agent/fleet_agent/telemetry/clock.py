"""What time it is, and whether that can be believed. A Pi without a clock boots in 1970, or where it was
switched off: a plausible time that is past. So a plausible year alone proves nothing
(docs/adr/0013-when-a-clock-is-believed.md).
"""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet_shared.messages.telemetry import Clock

BUILT_S: Final = 1_767_225_600
"""2026-01-01: no wall clock before this is right."""
LATEST_S: Final = BUILT_S + 30 * 365 * 86_400
"""No device works that long with this release: a later clock is one that lost its power or its mind."""
FLOOR_EVERY_S: Final = 60.0
"""How often the floor is read again; it only rises."""

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


@dataclass(frozen=True)
class ClockEvidence:
    """What speaks for the wall clock. ``in_step``: something keeps the kernel's clock in step now, or did
    since boot. ``kept``: it was set at boot from a clock that runs without power, the machine's own or a
    host's."""

    in_step: bool
    kept: bool


def judge_clock(wall_ms: int, floor_ms: int, evidence: ClockEvidence) -> Clock:
    """Say whether ``wall_ms`` can be believed: `UNSYNCED` means no. `UNKNOWN` is believed too, but nobody
    compared it with another clock."""
    if not max(BUILT_S * 1000, floor_ms) <= wall_ms <= LATEST_S * 1000:
        return Clock.UNSYNCED
    if evidence.in_step:
        return Clock.SYNCED
    return Clock.UNKNOWN if evidence.kept else Clock.UNSYNCED


class DeviceClock:
    """``floor_ms``: the latest moment that is known to be past. Once in step, the clock is believed until the
    machine boots again: it runs on by itself, the kernel only stops vouching for it after some hours."""

    def __init__(
        self,
        floor_ms: Callable[[], int] = lambda: 0,
        evidence: Callable[[], ClockEvidence] | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "unknown"
        self._load_floor_ms, self._load_evidence, self._wall_s = floor_ms, evidence or Evidence().load, wall_s
        self._floor_ms = 0
        self._floor_at_s: float | None = None
        self._was_in_step = False

    def boot_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> Stamp:
        wall_ms = int(self._wall_s() * 1000)
        evidence = self._load_evidence()
        self._was_in_step = self._was_in_step or evidence.in_step
        kept = ClockEvidence(evidence.in_step, evidence.kept or self._was_in_step)
        clock = judge_clock(wall_ms, self._floor(), kept)
        return Stamp(
            boot_id=self.boot_id,
            boot_ms=int(self.boot_s() * 1000),
            wall_ms=None if clock is Clock.UNSYNCED else wall_ms,
            clock=clock,
        )

    def _floor(self) -> int:
        now_s = self.boot_s()
        if self._floor_at_s is None or now_s - self._floor_at_s >= FLOOR_EVERY_S:
            self._floor_at_s, self._floor_ms = now_s, self._load_floor_ms()
        return self._floor_ms


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


class Evidence:
    """Asks the kernel and systemd-timesyncd each time, and once whether there is a clock behind the clock:
    what set the time at boot does not change, and reading it takes milliseconds, several times a second."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._kept: bool | None = None

    def load(self) -> ClockEvidence:
        if self._kept is None:
            self._kept = _has_clock(self._root)
        synced = self._root / "run/systemd/timesync/synchronized"  # made at the first answer after boot
        return ClockEvidence(in_step=_ask_kernel() or synced.exists(), kept=self._kept)


def _ask_kernel() -> bool:
    """Whether something keeps the kernel's clock in step (adjtimex(2), STA_UNSYNC): ntpd, chrony,
    timesyncd, also those of a container's host. No where it cannot be asked."""
    timex = _Timex()
    try:
        result = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return False
    return result >= 0 and not timex.status & _STA_UNSYNC


def _has_clock(root: Path) -> bool:
    """Whether the kernel set the time at boot from a real-time clock (``hctosys``) that shows a plausible
    time itself (a Pi 5 without a battery has one that starts in 1970), or this is a virtual machine, which
    gets its host's time and is often told nothing of its state."""
    for rtc in sorted(root.glob("sys/class/rtc/rtc*")):
        shown = _read(rtc / "since_epoch").strip()
        if _read(rtc / "hctosys").strip() == "1" and shown.isdigit() and int(shown) >= BUILT_S:
            return True
    return "hypervisor" in _read(root / "proc/cpuinfo") or (root / "sys/hypervisor/type").exists()


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
