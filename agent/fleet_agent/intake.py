"""Desired states on their way to a verdict: the newest envelope, one verification at a time.

A verdict ends an envelope. A verification that could not be carried out (metadata out of reach) is
tried again, until a newer envelope takes its place. A verdict that hangs on the time of day (expired, or
of a time to come) is asked for again when this device's clock is set.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fleet_agent.journal import Journal
from fleet_agent.link.backoff import Backoff
from fleet_agent.trust.protocol import DesiredVerified, Refused, TrustAnswer
from fleet_shared.messages.reported import Failure
from fleet_shared.names import digest_of

log = logging.getLogger(__name__)

CLOCK_CODES: Final = frozenset({"trust.desired.future"})
CLOCK_SET_MS: Final = 60_000
"""A wall clock that moves by so much against the time since boot was set."""
EXPIRED: Final = Refused(
    code="trust.desired.expired",
    message="the desired state has ended: what runs goes on, and nothing new is started by it",
    hint="the controller signs each again long before its end: does somebody hold back what is newer?",
)
TOLD_MAX: Final = 1000
"""So many envelopes are remembered as told; the broker repeats retained ones."""


@dataclass
class Intake:
    """``ask`` starts a verification; its answer comes to `judge`. Time is on the boot clock. ``trouble``:
    why the newest envelope cannot be verified at the moment, if so."""

    ask: Callable[[bytes], None]
    backoff: Backoff
    journal: Journal
    _asked: bytes | None = None
    _waiting: bytes | None = None
    _again_at_s: float | None = None
    _dated: bytes | None = None
    _offset_ms: int | None = None
    trouble: Failure | None = None
    _told: dict[tuple[str, str], None] = field(default_factory=dict)

    def take(self, envelope: bytes) -> None:
        """Take up an envelope: it is newer than whatever waits, and waits for no timer."""
        if envelope == self._asked:
            return
        if envelope != self._waiting:
            self.backoff.reset()
        self._dated = None
        self._waiting, self._again_at_s = envelope, None

    def put_back(self, envelope: bytes) -> None:
        """Verify it again later, unless a newer one waits: now was no time to obey it."""
        if self._waiting is None:
            self._waiting = envelope

    def note_clock(self, boot_ms: int, wall_ms: int | None) -> None:
        """Take up how the clocks stand; a wall clock that was set brings back what hung on it."""
        offset_ms = None if wall_ms is None else wall_ms - boot_ms
        known, self._offset_ms = self._offset_ms, offset_ms
        if offset_ms is None or (known is not None and abs(offset_ms - known) < CLOCK_SET_MS):
            return
        if self._dated is not None and self._waiting is None and self._asked is None:
            log.info("the clock was set: the desired state is judged again")
            self._waiting, self._dated = self._dated, None

    def tick(self, now_s: float) -> None:
        """Verify what waits, if nothing is being verified."""
        if self._asked is not None or self._waiting is None:
            return
        if self._again_at_s is not None and now_s < self._again_at_s:
            return
        self._asked, self._waiting, self._again_at_s = self._waiting, None, None
        self.ask(self._asked)

    def judge(self, envelope: bytes, answer: TrustAnswer, now_s: float) -> DesiredVerified | None:
        """Take up the answer for ``envelope``; return what it verified."""
        self._asked = None
        if isinstance(answer, Refused) and answer.retry:
            self._try_again(envelope, answer, now_s)
            return None
        self.backoff.reset()
        self.trouble = None
        if _hangs_on_time(answer):
            self._dated = envelope
        if isinstance(answer, DesiredVerified) and answer.expired:
            log.warning("%s", EXPIRED.message)
            self._tell("desired.expired", envelope, EXPIRED)
        if isinstance(answer, Refused):
            log.error("desired state refused: %s (%s)", answer.message, answer.code)
            self._tell("desired.refused", envelope, answer)
        return answer if isinstance(answer, DesiredVerified) else None

    def _try_again(self, envelope: bytes, refused: Refused, now_s: float) -> None:
        log.warning("verification is tried again: %s", refused.message)
        self._tell("desired.unverified", envelope, refused)
        self.trouble = Failure(code=refused.code, message=refused.message, hint=refused.hint)
        if self._waiting is None:
            self._waiting = envelope
            self._again_at_s = now_s + self.backoff.next_delay_s()

    def _tell(self, name: str, envelope: bytes, refused: Refused) -> None:
        """Store one event of this name for each distinct envelope."""
        digest = digest_of(envelope)
        if (name, digest) in self._told:
            return
        self._told[name, digest] = None
        while len(self._told) > TOLD_MAX:
            del self._told[next(iter(self._told))]
        failure = Failure(code=refused.code, message=refused.message, hint=refused.hint)
        self.journal.event(name, failure=failure, detail={"envelope_sha256": digest})


def _hangs_on_time(answer: TrustAnswer) -> bool:
    if isinstance(answer, DesiredVerified):
        return answer.expired
    return isinstance(answer, Refused) and answer.code in CLOCK_CODES
