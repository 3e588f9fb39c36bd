"""Wrong secrets, counted by where they come from: who guesses is not listened to for a while.

Only wrong ones count, and only against their own origin, so that nobody can shut the door for others.
"""

import threading
from collections import OrderedDict
from typing import Final

from fleet_cloud.addresses import network_of
from fleet_cloud.errors import Forbidden

WRONG_MAX: Final = 20
WINDOW_MS: Final = 60_000
ORIGINS_MAX: Final = 10_000
"""Beyond that the origin that was heard from longest ago is forgotten."""


class Attempts:
    """May be used from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def check(self, origin: str, now_ms: int) -> None:
        """Raise `Forbidden` (``enrol.attempts``) for an origin with too many wrong secrets."""
        with self._lock:
            began_ms, count = self._wrong.get(network_of(origin), (now_ms, 0))
        if count >= WRONG_MAX and now_ms < began_ms + WINDOW_MS:
            raise Forbidden(
                f"{WRONG_MAX} wrong tokens came from {origin}",
                hint="wait a minute; tokens are made on this controller: fleet device token",
                code="enrol.attempts",
            )

    def wrong(self, origin: str, now_ms: int) -> None:
        network = network_of(origin)
        with self._lock:
            began_ms, count = self._wrong.pop(network, (now_ms, 0))
            fresh = now_ms >= began_ms + WINDOW_MS
            self._wrong[network] = (now_ms, 1) if fresh else (began_ms, count + 1)
            if len(self._wrong) > ORIGINS_MAX:
                self._wrong.popitem(last=False)
