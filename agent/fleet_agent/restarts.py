"""When a worker that ended is started again: with backoff while the budget lasts, slowly afterwards. Pure.

It never stops: what made it crash (one client's input, memory that another process took) may have gone,
and a device without inference helps nobody. It never hurries either.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fleet_agent.link.backoff import Backoff


@dataclass
class Restarts:
    """``budget``: so many restarts in a row come after ``backoff``; then one each ``slow_s``, with the jitter
    of ``random`` in [0, 1). A worker that served well for long enough resets all."""

    backoff: Backoff
    budget: int
    slow_s: float
    random: Callable[[], float]
    count: int = 0

    @property
    def given_up(self) -> bool:
        """Whether the budget is spent."""
        return self.count > self.budget

    def plan_s(self) -> float:
        """Count one restart, and return in how many seconds it comes."""
        self.count += 1
        if self.given_up:
            return self.slow_s * (0.75 + 0.5 * self.random())
        return self.backoff.next_delay_s()

    def reset(self) -> None:
        self.count = 0
        self.backoff.reset()
