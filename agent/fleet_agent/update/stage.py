"""How long a state has lasted, and how often its effect was run. Pure: time is an argument.

Seconds count while the agent's loop runs, `PASSED_MAX_S` a turn at most: a machine that slept, or a loop
that was held up, is no update's fault.
"""

from dataclasses import dataclass
from typing import Final

from fleet_agent.update.record import Evidence
from fleet_shared.messages.update import UpdateState

PASSED_MAX_S: Final = 1.0


@dataclass
class Stage:
    """One state, from its entry on. ``is_waited_for``: whether its own limit still counts."""

    tries: int = 0
    seconds: float = 0.0
    is_waited_for: bool = True
    _ticked_s: float | None = None
    _again_in_s: float | None = None

    def again_in(self, delay_s: float) -> None:
        """Have the effect run once more."""
        self._again_in_s = delay_s

    def tick(self, now_s: float) -> bool:
        """Tell whether the effect is to be run once more now."""
        passed_s = 0.0 if self._ticked_s is None else min(now_s - self._ticked_s, PASSED_MAX_S)
        self._ticked_s = now_s
        self.seconds += passed_s
        if self._again_in_s is None:
            return False
        self._again_in_s -= passed_s
        if self._again_in_s > 0:
            return False
        self._again_in_s = None
        return True

    def describe(self, state: UpdateState) -> Evidence:
        """The evidence of a failure: where, after how long, in which try."""
        return {"failed_in": state.value, "failed_after_s": round(self.seconds, 1), "tries": self.tries}
