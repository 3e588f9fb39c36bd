"""The slow effects of an update, in a thread of their own, one at a time.

One that was given up may still run for a while: the next begins when it has ended, so that two never
share a file.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from fleet_agent.update.failures import disk_failure
from fleet_agent.update.machine import UpdateEvent
from fleet_agent.update.record import Evidence, UpdateRecord
from fleet_shared.errors import FleetError
from fleet_shared.messages.reported import Failure

log = logging.getLogger(__name__)


class Jobs(Protocol):
    """The slow effects: `update.install`, bound to this device. Both end soon after ``aborted``."""

    def download(self, record: UpdateRecord, aborted: threading.Event) -> Evidence: ...

    def verify(self, record: UpdateRecord, aborted: threading.Event) -> Evidence: ...


@dataclass(frozen=True)
class JobDone:
    """A slow effect ended. ``job`` tells a late one from the one that is waited for."""

    job: int
    event: UpdateEvent
    evidence: Evidence = field(default_factory=dict)
    failure: Failure | None = None


Effect = Callable[[threading.Event], Evidence]


@dataclass(frozen=True)
class _Job:
    number: int
    effect: Effect
    event: UpdateEvent
    aborted: threading.Event = field(default_factory=threading.Event)


@dataclass
class SlowJobs:
    """``post`` puts the end of a job on the supervisor's queue; the supervisor calls `end` with it."""

    post: Callable[[JobDone], None]
    _count: int = 0
    _running: _Job | None = None
    _next: _Job | None = None

    @property
    def is_idle(self) -> bool:
        return self._running is None

    def start(self, effect: Effect, event: UpdateEvent) -> None:
        """Run ``effect``, once the one before has ended; its end is told as ``event``."""
        self.abort()
        self._count += 1
        self._next = _Job(self._count, effect, event)
        self._launch()

    def abort(self) -> None:
        """Give up what runs: its end will be nobody's."""
        self._next = None
        if self._running is not None:
            self._running.aborted.set()

    def end(self, done: JobDone) -> bool:
        """Take up the end of a job and let the next one go; tell whether it is the awaited one."""
        ended, awaited = self._running, False
        if ended is not None and ended.number == done.job:
            awaited = not ended.aborted.is_set()
            self._running = None
            self._launch()
        return awaited

    def _launch(self) -> None:
        if self._running is not None or self._next is None:
            return
        job, self._next = self._next, None
        self._running = job
        try:
            threading.Thread(target=lambda: self.post(_run(job)), name="update", daemon=True).start()
        except RuntimeError as exc:
            self.post(_failed(job, exc))


def _run(job: _Job) -> JobDone:
    try:
        return JobDone(job.number, job.event, job.effect(job.aborted))
    except FleetError as exc:
        return JobDone(job.number, UpdateEvent.FAILED, failure=Failure.of(exc))
    except OSError as exc:
        log.error("the update was refused by the disk: %s", exc)
        failure = disk_failure("the disk failed within the update", exc)
        return JobDone(job.number, UpdateEvent.FAILED, failure=failure)
    except Exception as exc:  # the guard of the thread: an update must end, whatever happens
        log.exception("the update failed")
        return _failed(job, exc)


def _failed(job: _Job, exc: Exception) -> JobDone:
    failure = Failure(code="update.internal", message=f"{type(exc).__name__}: {exc}")
    return JobDone(job.number, UpdateEvent.FAILED, failure=failure)
