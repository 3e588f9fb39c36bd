"""The record of the newest update: saved durably before each effect, loaded after a crash.

A record that does not read back is set aside under another name: the caller gets none, which is
the safe side, since the pointer file alone says which model runs.
"""

from pathlib import Path
from typing import Final

import msgspec

from fleet_agent.slots import Pointers
from fleet_agent.update.latency import Latency
from fleet_shared.durable import rename, sync_folder, write_durably
from fleet_shared.messages.desired import Policy, RunEntry
from fleet_shared.messages.reported import Failure, Order, Running
from fleet_shared.messages.telemetry import Detail
from fleet_shared.messages.update import UpdateState
from fleet_shared.messages.update import UpdateState as S
from fleet_shared.names import Digest

SCHEMA: Final = 1

Evidence = Detail
"""What was observed of an update; it becomes the detail of its outcome."""


class UpdateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One assignment on its way. Times are milliseconds of the boot clock of ``boot_id``.

    ``before`` and ``before_previous`` are the pointers to return to; ``resumes`` counts starts
    of the agent within this update, ``late_resumes`` those of them that found its download done;
    ``accepted`` is the newest order that was taken up. ``before_latency`` is what ``before`` was
    measured to do, ``before_memory_bytes_max`` what its own policy allows its worker.
    ``waiting``: why a download stands still. ``repairs``: so many times was the model of this update,
    which succeeded, found damaged and fetched again (`repair`); none is the update itself.
    """

    schema: int = SCHEMA
    entry: RunEntry
    manifest: bytes
    target: Running
    policy: Policy
    accepted: Order
    state: UpdateState
    boot_id: str
    started_ms: int
    saved_ms: int
    deadline_ms: int
    before: Running | None = None
    before_previous: Running | None = None
    failure: Failure | None = None
    resumes: int = 0
    late_resumes: int = 0
    outcome_reported: bool = False
    evidence: Evidence = {}
    before_latency: Latency | None = None
    before_memory_bytes_max: int | None = None
    waiting: Failure | None = None
    repairs: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether it ended and its outcome is stored: nothing of it is outstanding."""
        return self.state.is_final and self.outcome_reported

    @property
    def fallback(self) -> Running | None:
        """What is the previous model once the target is active. The same model under another assignment
        is no way back."""
        before = self.before
        same = before is not None and before.manifest == self.target.manifest
        return self.before_previous if same else before

    def is_renewing(self, running: Running) -> bool:
        """Whether this update writes, or has written, the slot of an installed model anew: the same model
        under another assignment."""
        same = running != self.target and running.manifest == self.target.manifest
        return same and self.state in (S.VERIFYING, S.SELF_TESTING, S.SWITCHING, S.SOAKING)

    def without(self, manifest: Digest) -> "UpdateRecord":
        """Return the record of an update whose way back must not lead to a model that is gone."""
        left = Pointers(active=self.before, previous=self.before_previous).without(manifest)
        record = msgspec.structs.replace(self, before=left.active, before_previous=left.previous)
        if left.active == self.before:
            return record
        return msgspec.structs.replace(record, before_latency=None, before_memory_bytes_max=None)

    def saved_at(self, now_ms: int) -> "UpdateRecord":
        return msgspec.structs.replace(self, saved_ms=now_ms)

    def at(
        self, state: UpdateState, *, failure: Failure | None = None, evidence: Evidence | None = None
    ) -> "UpdateRecord":
        """Return the record in ``state``. The first failure is kept: later ones follow from it."""
        return msgspec.structs.replace(
            self,
            state=state,
            waiting=None,
            failure=self.failure or failure,
            evidence={**self.evidence, **(evidence or {})},
        )

    def ordered(self, order: Order, policy: Policy) -> "UpdateRecord":
        """Return the record under a newer order of the same assignment, and its policy."""
        record = msgspec.structs.replace(self, accepted=order)
        if policy == self.policy:
            return record
        deadline_ms = self.started_ms + int(policy.deadline_s * 1000)
        return msgspec.structs.replace(record, policy=policy, deadline_ms=deadline_ms)

    def rebased(self, boot_id: str, now_ms: int) -> "UpdateRecord":
        """Return the record in the boot clock of now.

        After a reboot the time without power is unknown and not counted: what was left of the
        deadline at the last save is left now.
        """
        if boot_id == self.boot_id:
            return self
        shift = now_ms - self.saved_ms
        return msgspec.structs.replace(
            self,
            boot_id=boot_id,
            saved_ms=now_ms,
            started_ms=self.started_ms + shift,
            deadline_ms=self.deadline_ms + shift,
        )


class RecordFile:
    """The record on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, record: UpdateRecord) -> None:
        """Replace the record; it is on disk when this returns. Raises `OSError`."""
        write_durably(self._path, msgspec.json.encode(record))

    def load(self) -> UpdateRecord | None:
        """Return the record, none if there is none; raise `ValueError` when it is damaged."""
        try:
            record = msgspec.json.decode(self._path.read_bytes(), type=UpdateRecord)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise ValueError(f"{self._path} does not parse: {exc}") from exc
        if record.schema != SCHEMA:
            raise ValueError(f"{self._path} has schema {record.schema}, expected {SCHEMA}")
        return record

    def set_aside(self) -> Path:
        """Move a damaged record out of the way, for a human to look at; the newest one is kept."""
        aside = self._path.with_suffix(".damaged")
        rename(self._path, aside)
        sync_folder(self._path.parent)
        return aside
