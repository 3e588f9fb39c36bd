"""When this device looks at the releases by itself: at news of them, once a day, and when its broker is a
stranger (after a rotation of authorities that it missed, the releases know the new one).

Not at once: news reach all devices in the same instant. Time is on the boot clock.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleet_agent.link.backoff import Backoff
from fleet_agent.trust.protocol import Refused, TrustAnswer
from fleet_shared.messages.reported import Failure

log = logging.getLogger(__name__)

SPREAD_S: Final = 20.0
"""News are followed within this time."""
EVERY_S: Final = 24 * 3600.0
DOUBT_EVERY_S: Final = 300.0


@dataclass
class Freshness:
    """``ask`` starts a refresh; its answer comes to `judge`. ``news``: the newest timestamp that the broker
    told of, unverified. ``seen``: the one that is known already. ``trouble``: why the releases cannot be
    brought up to date, if so."""

    ask: Callable[[], None]
    backoff: Backoff
    random: Callable[[], float]
    seen: bytes = b""
    news: bytes = b""
    trouble: Failure | None = None
    _asked: bytes | None = None
    _at_s: float | None = None
    _daily_s: float | None = None
    _doubted_s: float | None = None

    def take(self, news: bytes, now_s: float) -> None:
        self.news = news
        if news != self.seen:
            self._look_by(now_s + SPREAD_S * self.random())

    def doubt(self, now_s: float) -> None:
        """The broker is a stranger: perhaps it is this device that is behind. Whoever stays one is no reason
        to look at every try to connect."""
        if self._doubted_s is None or now_s - self._doubted_s >= DOUBT_EVERY_S:
            self._doubted_s = now_s
            self._look_by(now_s + self.backoff.next_delay_s())

    def tick(self, now_s: float) -> None:
        if self._daily_s is None:
            self._daily_s = now_s + EVERY_S * (0.5 + 0.5 * self.random())
        if now_s >= self._daily_s:
            self._look_by(now_s)
        if self._asked is None and self._at_s is not None and now_s >= self._at_s:
            self._at_s, self._daily_s, self._asked = None, None, self.news
            self.ask()

    def judge(self, answer: TrustAnswer, now_s: float) -> None:
        asked, self._asked = self._asked, None
        if isinstance(answer, Refused):
            log.warning("the releases cannot be brought up to date: %s", answer.message)
            self.trouble = Failure(code=answer.code, message=answer.message, hint=answer.hint)
            self._look_by(now_s + self.backoff.next_delay_s())
        else:
            self.note_done(asked or b"")

    def note_done(self, news: bytes) -> None:
        """Somebody brought the releases up to date, and knew of ``news``."""
        self.backoff.reset()
        self.seen, self.trouble = news, None
        if news == self.news:
            self._at_s = None

    def _look_by(self, at_s: float) -> None:
        self._at_s = at_s if self._at_s is None else min(at_s, self._at_s)
