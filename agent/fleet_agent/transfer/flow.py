"""How much is asked for at once over the broker. Pure.

A part comes whole or not at all, and what was asked for cannot be taken back: on a slow link few and short
parts are asked for, so that nothing is asked again that is still on its way; on a fast one so many that the
link is never idle. Both are found out, from how long answers take.
"""

import math
from dataclasses import dataclass
from typing import Final

from fleet_shared.limits import KIB, PART_BYTES

WINDOW_MAX: Final = 4
"""Questions outstanding: what they bring lies in this device's memory."""
LENGTH_MIN: Final = 2 * KIB
QUICK_S: Final = 1.0
SLOW_S: Final = 4.0
LONG_S: Final = 10.0
"""Answers that take as long are not made longer: what they bring shows as progress only when it is whole."""
FORGETS: Final = 1.05
"""With each answer: the way may have become longer since the fastest one."""
PATIENCE_MIN_S: Final = 5.0
PATIENCE_MAX_S: Final = 40.0


@dataclass
class Flow:
    """``window`` questions outstanding, each for ``length`` bytes. ``took_s``: the newest answer.

    An answer takes the time of the way, however little it brings; what it takes beyond the fastest of them
    it waited on a link that is full.
    """

    length: int = 4 * KIB
    window: int = 1
    took_s: float = 0.0
    patience_min_s: float = PATIENCE_MIN_S
    patience_max_s: float = PATIENCE_MAX_S
    _losses: int = 0
    _fastest_s: float = math.inf

    @property
    def patience_s(self) -> float:
        """How long nothing may come before what is outstanding counts as lost."""
        usual_s = max(self.patience_min_s, 4 * self.took_s)
        return float(min(self.patience_max_s, usual_s * 2 ** min(self._losses, 10)))

    def answered(self, took_s: float) -> None:
        self.took_s, self._losses = took_s, 0
        self._fastest_s = min(self._fastest_s * FORGETS, took_s)
        over_s = took_s - self._fastest_s
        if over_s > max(SLOW_S, self._fastest_s):
            self._shrink()
        elif over_s < max(QUICK_S, self._fastest_s / 2) and took_s < LONG_S:
            self._grow()

    def lost(self) -> None:
        """Nothing came for as long as `patience_s`."""
        self._losses += 1
        self.window = 1
        self._shrink()

    def _grow(self) -> None:
        if self.length < PART_BYTES:
            self.length = min(2 * self.length, PART_BYTES)
        else:
            self.window = min(self.window + 1, WINDOW_MAX)

    def _shrink(self) -> None:
        if self.window > 1:
            self.window -= 1
        else:
            self.length = max(LENGTH_MIN, self.length // 2)
