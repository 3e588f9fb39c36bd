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

    def next_delay_s(self, at_least_s: float = 0.0) -> float:
        """``at_least_s``: what the other side asks for; a share is added to that as well."""
        delay = min(self.ceiling_s, self.base_s * 2.0 ** min(self._tries, 30))
        self._tries += 1
        share = self.random()
        return max(delay * (0.5 + 0.5 * share), at_least_s * (1.0 + 0.2 * share))

    def reset(self) -> None:
        self._tries = 0
