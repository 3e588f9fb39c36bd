"""The trial time after a switch: it begins when the worker serves, and needs a sign of life."""

from dataclasses import dataclass
from typing import Final

from fleet_agent.worker.protocol import Stats
from fleet_shared.messages.reported import Failure

SILENT_AFTER_S: Final = 30.0
"""After the trial time; a worker on trial reports at least twice within it."""


@dataclass
class Soak:
    """``soak_s``: how long it takes at least. Pure: time is an argument, on the boot clock."""

    soak_s: float
    _until_s: float | None = None
    _heard: bool = False

    def begin(self, now_s: float) -> None:
        """The worker serves."""
        if self._until_s is None:
            self._until_s = now_s + self.soak_s

    def judge(self, stats: Stats) -> Failure | None:
        """Take up what the worker measured; return why it speaks against the model, or none."""
        self._heard = self._heard or self._until_s is not None
        if not stats.errors or stats.errors < stats.requests:
            return None
        return Failure(
            code="soak.errors",
            message=f"all {stats.requests} inferences in {stats.window_ms / 1000:g} s failed",
            hint="does the source give what the model expects?",
        )

    def is_silent(self, now_s: float) -> bool:
        """Whether the worker serves and has measured nothing long after it should have."""
        return not self._heard and self._until_s is not None and now_s >= self._until_s + SILENT_AFTER_S

    def is_over(self, now_s: float) -> bool:
        """Whether it was long enough, and the worker measured at least once since it serves."""
        return self._heard and self._until_s is not None and now_s >= self._until_s
