"""How fast one device may speak. Who is faster is read more slowly, and nothing of it is lost: a device that
talks without end takes no time from the others, and none from the rest of the controller's process."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

PACKETS_PER_S: Final = 500.0
"""Twice what a download over the broker takes at 10 MB/s: a question and an acknowledgement for each part."""

BURST_PACKETS: Final = 1_000.0


class Pace:
    """A bucket of ``burst`` packets that fills at ``per_s``. ``now_s``: a clock that never goes back."""

    def __init__(self, per_s: float, burst: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._now_s = per_s, burst, now_s
        self._left, self._at_s = burst, now_s()

    def take(self) -> float:
        """Count one packet; return the seconds to wait before the next one is read."""
        now_s = self._now_s()
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s) - 1
        self._at_s = now_s
        return max(0.0, -self._left / self._per_s)

    async def wait(self) -> None:
        """Wait for the time of the next packet; others have a turn in any case."""
        await asyncio.sleep(self.take())
