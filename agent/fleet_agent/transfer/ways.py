"""By which way blobs come: HTTP, the broker, or the broker while HTTP is out of reach."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from fleet_agent.errors import SettingsError
from fleet_agent.transfer.answer import Answer, HttpSource
from fleet_agent.transfer.broker import BrokerSource
from fleet_agent.transfer.response import Response, Source, Wanted

log = logging.getLogger(__name__)

MISSES_MAX: Final = 2
"""So many requests in a row to which no server answered at all."""
HTTP_AGAIN_S: Final = 600.0
"""How long the broker is used before HTTP is tried once more."""


class Transfers(str, Enum):
    AUTO = "auto"
    HTTP = "http"
    MQTT = "mqtt"


def parse_transfers(text: str) -> Transfers:
    """Raise `SettingsError` for what is none."""
    try:
        return Transfers(text)
    except ValueError as exc:
        raise SettingsError(
            f"transfers = {text!r} is no way for blobs to come",
            hint="one of " + ", ".join(way.value for way in Transfers),
        ) from exc


@dataclass
class Reach:
    """Whether HTTP is in reach, as far as it is known. Kept from one update to the next."""

    _misses: int = 0
    _again_at_s: float = 0.0

    def tries_http(self, now_s: float) -> bool:
        return self._misses < MISSES_MAX or now_s >= self._again_at_s

    def reached(self) -> None:
        self._misses = 0

    def missed(self, now_s: float) -> None:
        self._misses += 1
        self._again_at_s = now_s + HTTP_AGAIN_S


@dataclass
class EitherSource:
    """HTTP, and the broker while no server answers. A server that refuses is in reach: what it says counts.

    ``now_s``: a clock that only goes forward.
    """

    http: HttpSource
    broker: BrokerSource
    reach: Reach
    now_s: Callable[[], float]
    _last: Answer | None = field(default=None, init=False)

    def __call__(self, wanted: Wanted, aborted: threading.Event) -> Response:
        self._judge_last()
        if self.reach.tries_http(self.now_s()):
            self._last = self.http(wanted, aborted)
            return self._last
        return self.broker(wanted, aborted)

    def _judge_last(self) -> None:
        last, self._last = self._last, None
        if last is None:
            return
        if last.reached:
            self.reach.reached()
            return
        now_s = self.now_s()
        self.reach.missed(now_s)
        if not self.reach.tries_http(now_s):
            log.warning("no blob server answers over HTTP: blobs come over the broker for a while")


def choose_source(
    transfers: Transfers, http: HttpSource, broker: BrokerSource, reach: Reach, now_s: Callable[[], float]
) -> Source:
    if transfers is Transfers.HTTP:
        return http
    if transfers is Transfers.MQTT:
        return broker
    return EitherSource(http, replace(broker, lasts_s=HTTP_AGAIN_S), reach, now_s)
