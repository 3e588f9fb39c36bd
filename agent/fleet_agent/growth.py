"""Whether memory rises steadily: a leak, and no plateau. Pure.

What counts is the floor: the least memory within a window. Buffers of requests come and go above it.
A worker that took much and stays there is no leak (the next one would do the same); one whose floor
rose in each of the newest windows goes on until something ends it.
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

WINDOW_S: Final = 60.0
WARM_AFTER: Final = 1
"""So many windows pass before the first floor counts: buffers and arenas are taken by then."""
RISING: Final = 4
"""So many floors in a row, each above the one before, are a steady rise."""


@dataclass
class Growth:
    window_s: float = WINDOW_S
    _passed_s: float = 0.0
    _lowest: int | None = None
    _windows: int = 0
    _warm_bytes: int | None = None
    _floors: "deque[int]" = field(default_factory=lambda: deque(maxlen=RISING))

    def take(self, rss_bytes: int, passed_s: float) -> int | None:
        """Take up one reading. At the end of a window, return by how many bytes the floor has risen since
        the worker was warm, if it rises steadily."""
        self._lowest = rss_bytes if self._lowest is None else min(self._lowest, rss_bytes)
        self._passed_s += passed_s
        if self._passed_s < self.window_s:
            return None
        floor, self._lowest, self._passed_s = self._lowest, None, 0.0
        self._windows += 1
        if self._windows <= WARM_AFTER:
            return None
        if self._warm_bytes is None:
            self._warm_bytes = floor
        self._floors.append(floor)
        floors = list(self._floors)
        rises = all(before < after for before, after in pairwise(floors))
        return floor - self._warm_bytes if rises and len(floors) == RISING else None
