"""A device's trust beside a repository of `releases`: its folders, and the questions that the agent asks."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from fleet_agent.errors import AgentError
from fleet_agent.trust.fetching import Ask
from fleet_agent.trust.protocol import (
    DesiredVerified,
    Refresh,
    Refreshed,
    Refused,
    Repository,
    TrustAnswer,
    VerifyDesired,
)
from fleet_agent.trust.trouble import PassingError
from fleet_agent.trust.verify import refresh, verify_desired
from fleet_agent.trust_process import TrustProcess
from fleet_shared.messages.desired import Desired, RunEntry
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName
from tests.kit.releases import Releases

PI: Final = DeviceId("pi-1")
DAY_MS: Final = 86_400_000
NONE: Final = Digest("")


@dataclass
class TrustingDevice:
    """``process``: verify in a child of its own, as the agent does, and not here. ``clock_days``: how far its
    clock is from right; none for one that has none."""

    folder: Path
    releases: Releases
    process: bool = False
    clock_days: float | None = 0.0
    http: bool = True
    ask: Ask | None = None
    manifest: Digest = NONE
    news: bytes = field(default=b"")

    def __post_init__(self) -> None:
        for name in ("identity", "trust"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "trust" / "root.json").write_bytes(self.releases.pinned)

    @property
    def wall_ms(self) -> int | None:
        return None if self.clock_days is None else int(time.time() * 1000 + self.clock_days * DAY_MS)

    @property
    def repository(self) -> Repository:
        url = self.releases.url
        return Repository(
            metadata_url=f"{url}/metadata", targets_url=f"{url}/targets", http=self.http, news=self.news
        )

    def desired(self, **changes: object) -> Desired:
        now_ms = int(time.time() * 1000)
        entry = RunEntry(
            model=ModelName("m"), version="1.0.0", manifest=self.manifest, assignment=AssignmentId("a")
        )
        desired = Desired(
            device=PI, key_epoch=1, generation=1, serial=0, issued_ms=now_ms, expires_ms=now_ms + 90 * DAY_MS,
            run=(entry,),
        )  # fmt: skip
        return msgspec.structs.replace(desired, **changes)

    def verify(self, envelope: bytes | None = None, **changes: object) -> TrustAnswer:
        if envelope is None:
            envelope = self.releases.sign_desired(self.desired(**changes))
        return self._ask(
            VerifyDesired(
                identity_dir=str(self.folder / "identity"), trust_dir=str(self.folder / "trust"), device=PI,
                repository=self.repository, envelope=envelope, wall_ms=self.wall_ms,
            )
        )  # fmt: skip

    def refresh(self) -> TrustAnswer:
        return self._ask(
            Refresh(
                identity_dir=str(self.folder / "identity"), trust_dir=str(self.folder / "trust"),
                repository=self.repository, wall_ms=self.wall_ms,
            )
        )  # fmt: skip

    def accepts(self, envelope: bytes | None = None, **changes: object) -> DesiredVerified:
        answer = self.verify(envelope, **changes)
        assert isinstance(answer, DesiredVerified), answer
        return answer

    def refuses(self, code: str, envelope: bytes | None = None, **changes: object) -> Refused:
        answer = self.verify(envelope, **changes)
        assert isinstance(answer, Refused), answer
        assert answer.code == code, answer
        return answer

    def refreshes(self) -> Refreshed:
        answer = self.refresh()
        assert isinstance(answer, Refreshed), answer
        return answer

    def _ask(self, request: Refresh | VerifyDesired) -> TrustAnswer:
        if self.process:
            return TrustProcess(fetch_file=self.ask).ask(request)
        try:
            if isinstance(request, Refresh):
                return refresh(request, self.ask)
            return verify_desired(request, self.ask)
        except AgentError as exc:
            return Refused(code=exc.code, message=exc.message, retry=isinstance(exc, PassingError))
