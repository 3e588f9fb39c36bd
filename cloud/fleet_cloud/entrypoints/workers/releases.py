"""Releases on their way out: renewed, copied to the mirror, the newest timestamp retained at the broker."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fleet_cloud.services.models import Registry
from fleet_cloud.services.ports import Clock, OutgoingMessage, Trust
from fleet_shared.limits import RELEASES_BYTES

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
REFRESH_MS: Final = 3600 * 1000


@dataclass
class ReleaseWorker:
    """``publish`` takes messages and tells which of them the broker has; ``connected_ms``: since when it is
    there; ``seen``: the timestamp that it holds."""

    trust: Trust
    registry: Registry
    clock: Clock
    topic: str
    publish: Callable[[Sequence[OutgoingMessage]], Sequence[bool]]
    connected_ms: Callable[[], int | None]
    seen: Callable[[], bytes | None]
    _refreshed_ms: int | None = None
    _checked: bytes | None = None
    _copied: bytes | None = None
    _announced: tuple[bytes, int] | None = field(default=None)
    _announcing: threading.Lock = field(default_factory=threading.Lock)

    def turn(self) -> float:
        self._renew()
        self._catch_up()
        newest = self.trust.newest_timestamp()
        if newest != self._copied:
            self.trust.copy_out()
            self._copied = newest
        with self._announcing:
            self._announce(self.trust.newest_timestamp())
        return LOOK_S

    def announce_first(self) -> None:
        """Let the broker have what is newest before an order that needs it: behind a mirror that lags,
        devices that know of nothing newer would find that it was never released. May be called by
        another thread. What a broker held before is looked at by `turn`, which is the first to speak."""
        with self._announcing:
            if self._announced is not None and self._announced[1] == self.connected_ms():
                self._announce(self.trust.newest_timestamp())

    def _renew(self) -> None:
        now_ms = self.clock.now_ms()
        if self._refreshed_ms is None and (count := self.registry.release_missing()):
            log.warning("%d manifests of known versions were missing in the release repository", count)
        if self._refreshed_ms is None or now_ms - self._refreshed_ms >= REFRESH_MS:
            self.trust.refresh(now_ms)
            self._refreshed_ms = now_ms

    def _catch_up(self) -> None:
        seen = self.seen()
        if seen is None or seen == self._checked or len(seen) > RELEASES_BYTES:
            return
        if self.trust.catch_up(seen):
            log.warning("the broker holds newer releases than the data folder: all are signed again, above")
        self._checked = seen

    def _announce(self, newest: bytes) -> None:
        connected_ms = self.connected_ms()
        if connected_ms is None or self._announced == (newest, connected_ms):
            return
        if all(self.publish([OutgoingMessage(self.topic, newest, retain=True)])):
            self._announced = (newest, connected_ms)
