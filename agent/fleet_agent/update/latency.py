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
ASSIGNMENTS: Final = 2
"""The active and the previous."""


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
    """What the newest assignments that served were measured to do, since the agent started. A version that
    was returned to goes on with what is known of it."""

    _known: dict[AssignmentId, LatencyWindows] = field(default_factory=dict)

    def add(self, assignment: AssignmentId, stats: Stats) -> None:
        windows = self._known.pop(assignment, None) or LatencyWindows()
        self._known[assignment] = windows  # the newest is the last
        while len(self._known) > ASSIGNMENTS:
            del self._known[next(iter(self._known))]
        windows.add(stats)

    def get(self, assignment: AssignmentId) -> Latency | None:
        known = self._known.get(assignment)
        return None if known is None else known.median
