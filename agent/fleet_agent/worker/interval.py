"""How often a worker reports: more often while it is on trial."""

from collections.abc import Callable
from dataclasses import dataclass

from fleet_agent.worker.protocol import WorkerSpec


@dataclass
class Interval:
    """``clock`` gives monotonic seconds. The trial ends so many seconds after `begin`, and not before
    its inferences were reported."""

    spec: WorkerSpec
    clock: Callable[[], float]
    _served_since_s: float | None = None
    _reported: int = 0
    _window_since_s: float = 0.0

    def __post_init__(self) -> None:
        self._window_since_s = self.clock()

    def begin(self) -> None:
        """The worker serves."""
        self._served_since_s = self._window_since_s = self.clock()

    def end_window(self) -> int:
        """Return how many milliseconds the window took that ends now."""
        now_s = self.clock()
        since_s, self._window_since_s = self._window_since_s, now_s
        return max(1, round((now_s - since_s) * 1000))

    def count(self, requests: int) -> None:
        """So many were reported."""
        self._reported += requests

    def get_s(self) -> float:
        trial = self.spec.trial
        if trial is None:
            return self.spec.stats_interval_s
        since_s = self._served_since_s
        over = since_s is not None and self.clock() >= since_s + trial.lasts_s
        over = over and self._reported >= trial.inferences
        return self.spec.stats_interval_s if over else trial.interval_s
