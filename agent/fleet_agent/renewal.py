"""When this device asks for a new certificate.

A device that is away for `OFFLINE_GRACE_S` must come back without a hand: so one that is here renews long
before only that much is left, halfway between a whole life and the grace. A certificate of an authority on
its way out is renewed whatever its age. Judged by the device's time. Waits are on the boot clock.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleet_agent.link.backoff import Backoff
from fleet_agent.trust.protocol import CertificateStored, Refused, TrustAnswer
from fleet_agent.trust_report import TrustNote
from fleet_shared.limits import CERTIFICATE_LIFE_S, OFFLINE_GRACE_S
from fleet_shared.messages.reported import Failure

log = logging.getLogger(__name__)

LEFT_MIN: Final = (CERTIFICATE_LIFE_S + OFFLINE_GRACE_S) / 2 / CERTIFICATE_LIFE_S
"""Share of a certificate's life; it is renewed when less is left."""
SPREAD_S: Final = 20.0
"""A rotation reaches all devices at once; their questions are spread over this time."""

LOOK_EVERY_S: Final = 2.0


def is_due(note: TrustNote, now_ms: int) -> bool:
    """Whether a new certificate is to be asked for; not where none can be read: only enrolment helps then."""
    begins_ms, ends_ms = note.certificate_begins_ms, note.report.certificate_expires_ms
    if begins_ms is None or ends_ms is None:
        return False
    return not note.is_of_newest or ends_ms - now_ms < LEFT_MIN * (ends_ms - begins_ms)


@dataclass
class Renewal:
    """``start`` asks, in a thread of its own; the answer comes to `judge`. ``trouble``: why there is no new
    certificate, if it is due."""

    start: Callable[[], None]
    backoff: Backoff
    random: Callable[[], float]
    trouble: Failure | None = None
    _busy: bool = False
    _at_s: float | None = None
    _look_at_s: float = 0.0

    def tick(self, now_s: float, note: TrustNote, load_now_ms: Callable[[], int]) -> None:
        if self._busy or now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_EVERY_S
        if not is_due(note, load_now_ms()):
            return
        if self._at_s is None:
            self._at_s = now_s + SPREAD_S * self.random()
        if now_s >= self._at_s:
            self._busy = True
            self.start()

    def judge(self, answer: TrustAnswer, now_s: float) -> TrustNote | None:
        """Return what this device is now, when it has a new certificate. One that does not satisfy either
        (the controller knows no newer authority yet) is no reason to ask at once again."""
        self._busy = False
        self._at_s = now_s + self.backoff.next_delay_s()
        if isinstance(answer, CertificateStored):
            log.info("this device has a new certificate")
            self.trouble = None
            return answer.trust
        if isinstance(answer, Refused):
            log.warning("no new certificate: %s (%s)", answer.message, answer.code)
            self.trouble = Failure(code=answer.code, message=answer.message, hint=answer.hint)
        return None

    def note_settled(self) -> None:
        """The newest certificate is good for long."""
        self.backoff.reset()
        self._at_s, self.trouble = None, None
