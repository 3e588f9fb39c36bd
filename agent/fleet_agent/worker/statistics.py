"""What was served within one window: counts, errors, latency percentiles, classes, accuracy."""

import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from fleet_agent.worker.totals import Totals

RESERVOIR: Final = 2000


@dataclass
class Window:
    """Exact up to `RESERVOIR` latencies a window, beyond that over a uniform random sample of
    them (Vitter, algorithm R): memory stays bounded, and a percentile's error is that of 2000
    draws."""

    requests: int = 0
    errors: int = 0
    labelled: int = 0
    correct: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    latencies_us: list[float] = field(default_factory=list)


class Statistics:
    """Counts from many threads, read by one. ``totals`` are those that no window ends."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._lock = threading.Lock()
        self._window = Window()
        self.totals = Totals()

    def add(self, latency_us: float, *, name: str | None = None, label: str | None = None) -> None:
        """Count one inference; ``name`` is the predicted class, ``label`` the true one if known: it
        counts only where there is something to compare it with."""
        with self._lock:
            window = self._window
            window.requests += 1
            if name is not None:
                window.classes[name] += 1
            if label is not None and name is not None:
                window.labelled += 1
                window.correct += int(label == name)
            self._add_latency(window, latency_us)

    def add_error(self) -> None:
        with self._lock:
            self._window.requests += 1
            self._window.errors += 1

    def take(self) -> Window:
        """Return the window so far and start a new one."""
        with self._lock:
            window, self._window = self._window, Window()
        return window

    def _add_latency(self, window: Window, latency_us: float) -> None:
        if len(window.latencies_us) < RESERVOIR:
            window.latencies_us.append(latency_us)
        elif (place := self._random.randrange(window.requests)) < RESERVOIR:
            window.latencies_us[place] = latency_us


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile, the value of rank ceil(share * n), ``share`` from 0 to 1;
    none of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    rank = math.ceil(share * len(ordered))
    return ordered[min(max(rank, 1), len(ordered)) - 1]
