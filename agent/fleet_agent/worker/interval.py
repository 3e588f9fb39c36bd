"""How often a worker reports: more often while it is on trial."""

from collections.abc import Callable
from dataclasses import dataclass

from fleet_agent.worker.protocol import WorkerSpec


@dataclass
class Interval:
    """``clock`` gives monotonic seconds. The trial ends so many seconds after `begin`."""

    spec: WorkerSpec
    clock: Callable[[], float]
    _served_since_s: float | None = None

    def begin(self) -> None:
        """The worker serves."""
        self._served_since_s = self.clock()

    def get_s(self) -> float:
        trial = self.spec.trial
        if trial is None:
            return self.spec.stats_interval_s
        since_s = self._served_since_s
        over = since_s is not None and self.clock() >= since_s + trial.lasts_s
        return self.spec.stats_interval_s if over else trial.interval_s
