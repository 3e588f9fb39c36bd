"""How long to wait before the next try: exponential with full jitter."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Backoff:
    """``random`` gives a number in [0, 1). Seconds: base, 2 base, 4 base ... at most ``ceiling_s``,
    each times a random share, so that a fleet does not come back all at once."""

    base_s: float
    ceiling_s: float
    random: Callable[[], float]
    _tries: int = 0

    def next_delay_s(self) -> float:
        delay = min(self.ceiling_s, self.base_s * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return delay * (0.5 + 0.5 * self.random())

    def reset(self) -> None:
        self._tries = 0
