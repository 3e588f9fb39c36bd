"""How long a state has lasted, and how often its effect was run. Pure: time is an argument.

Seconds count while the agent's loop runs (`passed`).
"""

from dataclasses import dataclass, field

from fleet_agent.passed import Passed
from fleet_agent.update.record import Evidence
from fleet_shared.messages.update import UpdateState


@dataclass
class Stage:
    """One state, from its entry on. ``is_waited_for``: whether its own limit still counts."""

    tries: int = 0
    seconds: float = 0.0
    is_waited_for: bool = True
    _passed: Passed = field(default_factory=Passed)
    _again_in_s: float | None = None

    def again_in(self, delay_s: float) -> None:
        """Have the effect run once more."""
        self._again_in_s = delay_s

    def tick(self, now_s: float) -> bool:
        """Tell whether the effect is to be run once more now."""
        passed_s = self._passed.take_s(now_s)
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
