"""Jobs for shared build workers: queued, claimed, reported on, cancelled.

Nothing here runs by itself: a job whose worker went silent is given to the next one that asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from fleet_cloud.domain import builds as rules
from fleet_cloud.domain.builds import BuildJob, BuildState
from fleet_cloud.domain.people import Actor
from fleet_cloud.errors import Conflict, Invalid, NotFound
from fleet_cloud.services.audit import note
from fleet_cloud.services.parts import unknown_blob
from fleet_cloud.services.ports import BlobStore, Clock, Ids, Transaction, UnitOfWork
from fleet_shared.messages.reported import Failure
from fleet_shared.names import Digest, parse_model_name
from fleet_shared.version import Version

EVENTS_MAX: Final = 20_000
"""What a job may say in all."""
EVENT_CHARS: Final = 4096


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of a job. ``version`` or ``failure``: how it ended."""

    attempt: int
    events: Sequence[str] = ()
    version: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class BuildJobs:
    uow: UnitOfWork
    store: BlobStore
    clock: Clock
    ids: Ids
    lease_ms: int
    """A worker that is silent for so long has lost its job to the next that asks."""

    def create(self, model: str, bundle: Digest, version: str | None, by: Actor) -> BuildJob:
        """Queue a job. Raises `NotFound` (``blob.unknown``) while its bundle is not uploaded."""
        if self.store.info(bundle) is None:
            raise unknown_blob(bundle)
        now_ms = self.clock.now_ms()
        job = BuildJob(
            id=self.ids.new_id()[:12],
            model=parse_model_name(model),
            bundle=bundle,
            version=None if version is None else str(Version.parse(version)),
            created_ms=now_ms,
            created_by=by.name,
            updated_ms=now_ms,
        )
        with self.uow.begin() as transaction:
            transaction.builds.add(job)
            note(transaction, by, now_ms, "build.create", job.id, after={"model": model, "bundle": bundle})
        return job

    def page(self, limit: int) -> Sequence[BuildJob]:
        with self.uow.read() as transaction:
            return transaction.builds.page(limit)

    def get(self, job: str) -> BuildJob:
        with self.uow.read() as transaction:
            return _known(job, transaction.builds.get(job))

    def events(self, job: str, after: int, limit: int) -> Sequence[tuple[int, str]]:
        with self.uow.read() as transaction:
            _known(job, transaction.builds.get(job))
            return transaction.builds.events(job, after, limit)

    def claim(self, worker: str, by: Actor) -> BuildJob | None:
        """Give the oldest job that waits to ``worker``; none when there is none."""
        now_ms = self.clock.now_ms()
        with self.uow.begin() as transaction:
            for job in self._waiting(transaction, now_ms):
                claimed = rules.claim(job, worker, now_ms, self.lease_ms)
                transaction.builds.put(claimed)
                after = {"worker": worker, "attempt": claimed.attempt}
                note(transaction, by, now_ms, "build.claim", job.id, after=after)
                return claimed
        return None

    def report(self, job: str, report: Report, by: Actor) -> BuildJob:
        """Keep what the worker says, and its lease. Raises `Conflict` (``build.job.lost``) for one that has
        the job no more: it must stop."""
        _check_events(report.events)
        now_ms = self.clock.now_ms()
        with self.uow.begin() as transaction:
            found = _known(job, transaction.builds.lock(job))
            if not found.is_held(report.attempt):
                raise Conflict(
                    f"attempt {report.attempt} has build {job} no more: it is {found.state.value}",
                    hint="it was cancelled, has ended, or another worker has it",
                    code="build.job.lost",
                )
            if transaction.builds.count_events(job) + len(report.events) <= EVENTS_MAX:
                transaction.builds.add_events(job, report.events)
            changed = self._after(found, report, now_ms)
            transaction.builds.put(changed)
            if not changed.state.is_open:
                after = {"state": changed.state.value, "version": changed.version}
                note(transaction, by, now_ms, "build.end", job, after=after)
        return changed

    def cancel(self, job: str, by: Actor) -> BuildJob:
        """End an open job; one that has ended stays as it is. Its worker hears of it at its next report."""
        now_ms = self.clock.now_ms()
        with self.uow.begin() as transaction:
            found = _known(job, transaction.builds.lock(job))
            if not found.state.is_open:
                return found
            cancelled = rules.end(found, BuildState.CANCELLED, now_ms)
            transaction.builds.put(cancelled)
            note(transaction, by, now_ms, "build.cancel", job, before={"state": found.state.value})
        return cancelled

    def _after(self, job: BuildJob, report: Report, now_ms: int) -> BuildJob:
        if report.failure is not None:
            return rules.end(job, BuildState.FAILED, now_ms, failure=report.failure)
        if report.version is not None:
            return rules.end(job, BuildState.SUCCEEDED, now_ms, version=str(Version.parse(report.version)))
        return rules.renew(job, now_ms, self.lease_ms)

    def _waiting(self, transaction: Transaction, now_ms: int) -> Sequence[BuildJob]:
        """Return the queued jobs, after those that their workers have left were taken from them."""
        waiting = []
        for job in transaction.builds.lock_open():
            current = job
            if job.has_lapsed(now_ms):
                current = rules.lapse(job, now_ms)
                transaction.builds.put(current)
                transaction.builds.add_events(job.id, [_say_lapsed(job)])
            if current.state is BuildState.QUEUED:
                waiting.append(current)
        return waiting


def _say_lapsed(job: BuildJob) -> str:
    """Return an event of a build (`fleet_cloud.factory.events.Warned`)."""
    message = f"the worker {job.worker} went silent (attempt {job.attempt} of {rules.ATTEMPTS_MAX})"
    return msgspec.json.encode({"type": "Warned", "message": message}).decode()


def _check_events(events: Sequence[str]) -> None:
    for event in events:
        if len(event) > EVENT_CHARS:
            raise Invalid(
                f"an event of {len(event)} characters, at most {EVENT_CHARS} are kept",
                hint="say it shorter",
                code="build.job.event",
            )


def _known(job: str, found: BuildJob | None) -> BuildJob:
    if found is None:
        raise NotFound(f"no build {job!r}", hint="fleet builds list shows all", code="build.job.unknown")
    return found
