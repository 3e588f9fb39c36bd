"""What a worker is doing at this moment, in memory that its supervisor shares.

The worker writes a few numbers and sends nothing: so they are true at the instant of a crash, and
progress (or its absence) is seen also when no thread of the worker gets to speak. One writes, the
other reads; each number is one aligned machine word.
"""

import mmap
import os
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Doing(str, Enum):
    STARTING = "starting"
    LOADING = "loading"
    TESTING = "self-testing"
    READY = "ready"
    SERVING = "serving"
    LEAVING = "leaving"


@dataclass(frozen=True)
class Vital:
    """``started`` and ``ended`` count inferences, golden vectors included; ``beats`` counts up each
    second in which a thread of the worker could run. ``rss_bytes`` is none where it cannot be read."""

    doing: Doing
    started: int = 0
    ended: int = 0
    beats: int = 0
    rss_bytes: int | None = None

    @property
    def is_busy(self) -> bool:
        return self.started > self.ended


_DOING, _STARTED, _ENDED, _BEATS, _WORDS = range(5)
_SIZE: Final = 8 * _WORDS
_ORDER: Final = tuple(Doing)
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def create_shared_memory() -> int:
    """Return the file descriptor of memory for one worker. Raises `OSError`."""
    fd = os.memfd_create("fleet-worker", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, _SIZE)
    except OSError:
        os.close(fd)
        raise
    return fd


class BlackBox:
    """Maps ``fd``, which may be closed afterwards; -1 maps memory that nobody shares."""

    def __init__(self, fd: int = -1) -> None:
        self._map = mmap.mmap(fd, _SIZE)
        self._words = memoryview(self._map).cast("q")

    def do(self, doing: Doing) -> None:
        self._words[_DOING] = _ORDER.index(doing)

    def count_started(self) -> None:
        self._words[_STARTED] += 1

    def count_ended(self) -> None:
        self._words[_ENDED] += 1

    def beat(self) -> None:
        self._words[_BEATS] += 1

    def read(self, rss_bytes: int | None = None) -> Vital:
        place = self._words[_DOING]
        return Vital(
            doing=_ORDER[place] if 0 <= place < len(_ORDER) else Doing.STARTING,
            started=self._words[_STARTED],
            ended=self._words[_ENDED],
            beats=self._words[_BEATS],
            rss_bytes=rss_bytes,
        )

    def close(self) -> None:
        self._words.release()
        self._map.close()


def load_rss_bytes(pid: int) -> int | None:
    """Return the resident memory of a process; none when it has ended or cannot be looked at."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 - twice a second, for ever
            return int(file.read().split()[1]) * _PAGE_BYTES or None
    except (OSError, ValueError, IndexError):
        return None
