"""The median latency of a model, from the windows that its worker reports. Pure.

A window tells its own median and how many inferences it covers. The median of all is taken as the
weighted median of the windows' medians: exact when the windows are alike, and never outside of what was
measured. The newest windows count, so that it is the latency of now.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fleet_agent.worker.protocol import Stats
from fleet_shared.names import AssignmentId

WINDOWS: Final = 360
"""An hour at the usual interval."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """A median over ``requests`` inferences."""

    p50_us: float
    requests: int


@dataclass
class LatencyWindows:
    _windows: "deque[tuple[float, int]]" = field(default_factory=lambda: deque(maxlen=WINDOWS))

    def add(self, stats: Stats) -> None:
        """Take up a window; one without an answered request says nothing."""
        answered = stats.requests - stats.errors
        if stats.latency_p50_us is not None and answered > 0:
            self._windows.append((stats.latency_p50_us, answered))

    @property
    def median(self) -> Latency | None:
        """None of nothing."""
        total, passed = sum(weight for _, weight in self._windows), 0
        for p50_us, weight in sorted(self._windows):
            passed += weight
            if 2 * passed >= total:
                return Latency(p50_us=p50_us, requests=total)
        return None


@dataclass
class Measured:
    """What the model that serves was measured to do since its worker started; another assignment starts
    anew."""

    _assignment: AssignmentId | None = None
    _windows: LatencyWindows = field(default_factory=LatencyWindows)

    def add(self, assignment: AssignmentId, stats: Stats) -> None:
        if assignment != self._assignment:
            self._assignment, self._windows = assignment, LatencyWindows()
        self._windows.add(stats)

    def get(self, assignment: AssignmentId) -> Latency | None:
        return self._windows.median if assignment == self._assignment else None
