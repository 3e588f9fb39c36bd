"""Builds on shared workers: who has a job, for how long, and what becomes of it. Pure.

    queued ── claim ──► running ── report ──► succeeded | failed
      ▲                    │ lease over: queued again, failed after `ATTEMPTS_MAX`
      └────────────────────┘
    cancel: from queued and running

A worker has a job by a lease that each of its reports renews. What a worker says whose lease somebody else
has by now does not count: the number of the attempt tells them apart.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from fleet_shared.messages.reported import Failure
from fleet_shared.names import Digest, ModelName

ATTEMPTS_MAX: Final = 3
"""What killed so many workers is not given to another."""


class BuildState(str, Enum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        return self in (BuildState.QUEUED, BuildState.RUNNING)


@dataclass(frozen=True, slots=True)
class BuildJob:
    """``bundle``: the blob with the recipe and what it names. ``version``: the number that is wanted, or
    once the job has succeeded, that was given. ``worker``, ``lease_until_ms``: who has it, while it runs."""

    id: str
    model: ModelName
    bundle: Digest
    created_ms: int
    created_by: str
    updated_ms: int
    state: BuildState = BuildState.QUEUED
    version: str | None = None
    attempt: int = 0
    worker: str | None = None
    lease_until_ms: int | None = None
    failure: Failure | None = None

    def has_lapsed(self, now_ms: int) -> bool:
        """Whether the lease is over: it holds up to and including its last millisecond."""
        return (
            self.state is BuildState.RUNNING
            and self.lease_until_ms is not None
            and now_ms > self.lease_until_ms
        )

    def is_held(self, attempt: int) -> bool:
        """Whether a worker that began this attempt still has the job. One that was silent for too long
        has it for as long as nobody else took it."""
        return self.state is BuildState.RUNNING and self.attempt == attempt


def lapse(job: BuildJob, now_ms: int) -> BuildJob:
    """Return what becomes of a running job whose lease is over."""
    if job.attempt < ATTEMPTS_MAX:
        return replace(job, state=BuildState.QUEUED, worker=None, lease_until_ms=None, updated_ms=now_ms)
    failure = Failure(
        code="build.job.attempts",
        message=f"{job.attempt} workers went silent over it, the last one was {job.worker}",
        hint="look at the workers: memory is what builds run out of",
    )
    return end(job, BuildState.FAILED, now_ms, failure=failure)


def claim(job: BuildJob, worker: str, now_ms: int, lease_ms: int) -> BuildJob:
    """Give a queued job to a worker."""
    return replace(
        job,
        state=BuildState.RUNNING,
        attempt=job.attempt + 1,
        worker=worker,
        lease_until_ms=now_ms + lease_ms,
        updated_ms=now_ms,
    )


def renew(job: BuildJob, now_ms: int, lease_ms: int) -> BuildJob:
    return replace(job, lease_until_ms=now_ms + lease_ms, updated_ms=now_ms)


def end(
    job: BuildJob,
    state: BuildState,
    now_ms: int,
    *,
    version: str | None = None,
    failure: Failure | None = None,
) -> BuildJob:
    return replace(
        job,
        state=state,
        version=version or job.version,
        failure=failure,
        lease_until_ms=None,
        updated_ms=now_ms,
    )
