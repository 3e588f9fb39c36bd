"""The time that passes while the agent's loop runs: a machine that slept, or a loop that was held up, is no
fault of who is waited for. Pure: time is an argument."""

from dataclasses import dataclass
from typing import Final

PASSED_MAX_S: Final = 1.0
"""What one turn of the loop counts at most."""


@dataclass
class Passed:
    _ticked_s: float | None = None

    def take_s(self, now_s: float) -> float:
        """Return the seconds since the last time, as far as they count; 0 at the first."""
        passed_s = 0.0 if self._ticked_s is None else min(now_s - self._ticked_s, PASSED_MAX_S)
        self._ticked_s = now_s
        return passed_s
