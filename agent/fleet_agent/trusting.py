"""What the supervisor asks of the trust child, and what it believes by its answers: the releases kept up to
date, desired states verified, the certificate renewed."""

from dataclasses import dataclass
from typing import Protocol

from fleet_agent.floor import judge_now_ms
from fleet_agent.freshness import Freshness
from fleet_agent.identity import Identity
from fleet_agent.paths import StatePaths
from fleet_agent.ports import Clock, Trust
from fleet_agent.renewal import Renewal, is_due
from fleet_agent.trust.protocol import (
    DesiredVerified,
    Refresh,
    Refreshed,
    Repository,
    TrustAnswer,
    VerifyDesired,
)
from fleet_agent.trust_report import TrustNote
from fleet_shared.messages.reported import Failure


@dataclass(frozen=True)
class TrustAnswered:
    """``news``: what was known of the newest releases when it was asked for."""

    envelope: bytes
    answer: TrustAnswer
    news: bytes = b""


@dataclass(frozen=True)
class RefreshAnswered:
    answer: TrustAnswer


class Answers(Protocol):
    """The supervisor's queue."""

    def put(self, message: TrustAnswered | RefreshAnswered) -> None: ...


@dataclass
class Trusting:
    """``changed`` counts what `believed` became; ``http``: whether the trust child may fetch release files
    over HTTP itself. Time is on the boot clock."""

    identity: Identity
    paths: StatePaths
    clock: Clock
    answers: Answers
    trust: Trust
    freshness: Freshness
    renewal: Renewal
    believed: TrustNote
    http: bool = True
    changed: int = 0

    @property
    def repository(self) -> Repository:
        return Repository(
            metadata_url=self.identity.metadata_url,
            targets_url=self.identity.targets_url,
            http=self.http,
            news=self.freshness.news,
        )

    def verify(self, envelope: bytes) -> None:
        """Ask the trust child; its answer comes on the queue."""
        request = VerifyDesired(
            identity_dir=str(self.paths.identity),
            trust_dir=str(self.paths.trust),
            device=self.identity.device,
            repository=self.repository,
            envelope=envelope,
            wall_ms=self.clock.now().wall_ms,
        )
        news = request.repository.news
        self.trust.start(request, lambda answer: self.answers.put(TrustAnswered(envelope, answer, news)))

    def refresh(self) -> None:
        """Let the trust child bring the releases up to date; its answer comes on the queue."""
        request = Refresh(
            identity_dir=str(self.paths.identity),
            trust_dir=str(self.paths.trust),
            repository=self.repository,
            wall_ms=self.clock.now().wall_ms,
        )
        self.trust.start(request, lambda answer: self.answers.put(RefreshAnswered(answer)))

    def tick(self, now_s: float, *, online: bool) -> None:
        self.freshness.tick(now_s)
        if online:
            self.renewal.tick(now_s, self.believed, self._load_now_ms)

    def note_verified(self, answered: TrustAnswered) -> None:
        """A desired state that was verified brought the releases up to date on the way."""
        if isinstance(answered.answer, DesiredVerified) and answered.answer.trust is not None:
            self.freshness.note_done(answered.news)
            self._believe(answered.answer.trust)

    def take_refreshed(self, answer: TrustAnswer) -> None:
        self.freshness.judge(answer, self.clock.boot_s())
        if isinstance(answer, Refreshed):
            self._believe(answer.trust)

    def take_renewed(self, answer: TrustAnswer) -> bool:
        """Tell whether there is a new certificate to connect with."""
        note = self.renewal.judge(answer, self.clock.boot_s())
        if note is None:
            return False
        self._believe(note)
        if not is_due(note, self._load_now_ms()):
            self.renewal.note_settled()
        return True

    def troubles(self, *, verifies: bool) -> tuple[Failure | None, ...]:
        """``verifies``: a desired state has the same trouble with the releases, and tells it."""
        return (None if verifies else self.freshness.trouble, self.renewal.trouble)

    def _believe(self, note: TrustNote) -> None:
        if note != self.believed:
            self.believed = note
            self.changed += 1

    def _load_now_ms(self) -> int:
        return judge_now_ms(self.paths.floor, self.clock.now().wall_ms)
