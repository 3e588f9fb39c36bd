"""Asks for a new certificate at the broker, for the key that this device has: the trust child makes the
question, the controller answers, the trust child checks and stores it."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from fleet_agent.errors import TransferError
from fleet_agent.identity import Identity
from fleet_agent.paths import StatePaths
from fleet_agent.transfer.questions import NotYetError, Questions
from fleet_agent.trust.protocol import KeyMade, MakeKey, Refused, StoreCertificate, TrustAnswer, TrustRequest
from fleet_shared.messages.fetch import Fetch

log = logging.getLogger(__name__)

ANSWER_WITHIN_S: Final = 60.0


@dataclass(frozen=True)
class Renewed:
    """The end of a renewal, for the supervisor's queue."""

    answer: TrustAnswer


@dataclass(frozen=True)
class Renewer:
    """``ask``: the trust child. ``wall_ms``: none while no clock is believed."""

    identity: Identity
    paths: StatePaths
    questions: Questions
    ask: Callable[[TrustRequest], TrustAnswer]
    wall_ms: Callable[[], int | None]

    def start(self, done: Callable[[Renewed], None]) -> None:
        """Renew in a thread of its own; ``done`` is called in any case."""

        def run() -> None:
            try:
                answer = self.renew()
            except Exception as exc:  # the guard of the thread: whoever waits hears of it
                log.exception("the renewal failed")
                answer = _failed(f"{type(exc).__name__}: {exc}")
            done(Renewed(answer))

        try:
            threading.Thread(target=run, name="renewal", daemon=True).start()
        except RuntimeError as exc:
            done(Renewed(_failed(str(exc))))

    def renew(self) -> TrustAnswer:
        """Return `CertificateStored`, or why there is no new one."""
        device, identity_dir = self.identity.device, str(self.paths.identity)
        made = self.ask(MakeKey(identity_dir=identity_dir, device=device))
        if not isinstance(made, KeyMade):
            return made
        question = Fetch(request=uuid4().hex, csr_pem=made.csr_pem)
        try:
            content = self.questions.ask(question, threading.Event(), ANSWER_WITHIN_S).content
            pem = "" if content is None else content.decode()
        except TransferError as exc:
            retry = isinstance(exc, NotYetError)
            return Refused(code=exc.code, message=exc.message, hint=exc.hint, retry=retry)
        except UnicodeDecodeError:
            pem = ""
        return self.ask(
            StoreCertificate(
                identity_dir=identity_dir,
                trust_dir=str(self.paths.trust),
                device=device,
                certificate_pem=pem,
                wall_ms=self.wall_ms(),
            )
        )


def _failed(why: str) -> Refused:
    return Refused(code="renewal.failed", message=f"the renewal failed: {why}", retry=True)
