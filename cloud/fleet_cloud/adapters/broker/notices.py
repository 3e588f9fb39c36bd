"""What an operator is told of those who are refused: one line in ten seconds, however many try."""

import logging
import time
from typing import Final

log = logging.getLogger(__name__)

PAUSE_S: Final = 10.0


class Notices:
    def __init__(self) -> None:
        self._held_back = 0
        self._next_s = 0.0

    def say(self, text: str) -> None:
        """Log ``text``, or count it when something was said a moment ago."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            self._held_back += 1
            return
        more = f" ({self._held_back} more such lines were left out)" if self._held_back else ""
        log.warning("%s%s", text, more)
        self._held_back, self._next_s = 0, now_s + PAUSE_S
