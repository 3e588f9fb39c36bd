"""Which worker serves, and which is on trial. The serving one is restarted when it ends.

Every worker is on a leash: a time within which it must be ready, speak, or leave, else it is killed.
Time counts only while the supervisor's loop runs: a machine that slept, or a loop that was held up,
is no worker's fault.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fleet_agent.errors import WorkerError
from fleet_agent.link.backoff import Backoff
from fleet_agent.ports import Worker
from fleet_agent.worker.protocol import WorkerSpec
from fleet_agent.worker_process import Notify, WorkerProcess
from fleet_shared.messages.reported import Running

log = logging.getLogger(__name__)

READY_WITHIN_S: Final = 180.0
"""Load, warm up and golden vectors: a large model from a memory card takes its time."""
SILENT_INTERVALS: Final = 3
"""A worker reports each interval of its statistics; so many without a word mean that it hangs."""
SILENT_MIN_S: Final = 10.0
"""However short the interval: a busy machine holds up a healthy worker this long."""
HEALTHY_AFTER_S: Final = 600.0
"""A worker that served so long did not end because of its start: the next one begins at once again."""
STOP_WITHIN_S: Final = 5.0
PASSED_MAX_S: Final = 1.0
"""What one turn of the supervisor's loop takes at most from a leash."""

MakeSpec = Callable[[Running, float | None], WorkerSpec]


@dataclass
class Leash:
    """``left_s`` until the worker is killed for ``why``; none once it was."""

    worker: Worker
    left_s: float | None
    why: str

    def set(self, seconds: float, why: str) -> None:
        if self.left_s is not None:
            self.left_s, self.why = seconds, f"{why} {seconds:g} s"

    def shorten(self, passed_s: float) -> None:
        if self.left_s is None:
            return
        self.left_s -= passed_s
        if self.left_s <= 0:
            self.left_s = None
            log.error("worker %s is killed, since %s", self.worker.pid, self.why)
            self.worker.kill(self.why)


@dataclass
class Workers:
    """``make_spec`` says how to start a worker for an installed model, on trial for some seconds or
    (none) for good; ``start`` starts one or raises `OSError`."""

    make_spec: MakeSpec
    notify: Notify
    backoff: Backoff
    start: Callable[[WorkerSpec, Notify], Worker] = WorkerProcess
    active: Worker | None = None
    candidate: Worker | None = None
    _running: Running | None = None
    _restart_in_s: float | None = None
    _leashes: list[Leash] = field(default_factory=list)
    _ticked_s: float | None = None
    _served_s: float = 0.0

    def keep(self, running: Running | None, trial_s: float | None = None) -> None:
        """From now on this model serves (or none); whoever served another one leaves, and nobody is
        on trial beside it. One that cannot be started is tried again."""
        self.dismiss_candidate()
        if running is not None and running == self._running:
            return  # it serves, or its restart is planned
        if self.active is not None:
            self._let_go(self.active)
        self.active, self._running, self._restart_in_s = None, running, None
        if running is not None:
            self._start_active(running, trial_s)

    def try_out(self, running: Running, trial_s: float) -> None:
        """Start a worker for a model on trial beside the serving one; raise `WorkerError`
        (``worker.start``)."""
        self.dismiss_candidate()
        try:
            self.candidate = self._start(running, trial_s)
        except OSError as exc:
            raise WorkerError(
                f"no inference worker can be started: {exc}",
                hint="is there enough memory for two workers? the running model goes on",
                code="worker.start",
            ) from exc

    def dismiss_candidate(self) -> None:
        candidate, self.candidate = self.candidate, None
        if candidate is not None:
            self._stop(candidate)

    def promote(self, running: Running) -> None:
        """The candidate serves from now on; the old one answers what it has and leaves."""
        old, self.active, self.candidate = self.active, self.candidate, None
        self._running, self._restart_in_s = running, None
        self.backoff.reset()
        if self.active is not None:
            self.active.serve()
        else:
            self._restart_in_s = 0.0
        if old is not None:
            self._let_go(old)

    def hear(self, worker: Worker) -> None:
        """It said something: it lives."""
        if worker is self.active or worker is self.candidate:
            silent_s = max(SILENT_INTERVALS * worker.spec.stats_interval_s, SILENT_MIN_S)
            self._leash(worker, silent_s, "it said nothing for")

    def forget(self, exited: Worker) -> None:
        """A worker ended: plan the restart if it was the serving one."""
        self._leashes = [leash for leash in self._leashes if leash.worker is not exited]
        if exited is self.candidate:
            self.candidate = None
        if exited is self.active:
            if self._served_s >= HEALTHY_AFTER_S:
                self.backoff.reset()
            self.active = None
            self._restart_in_s = self.backoff.next_delay_s()

    def tick(self, now_s: float) -> None:
        passed_s = 0.0 if self._ticked_s is None else min(now_s - self._ticked_s, PASSED_MAX_S)
        self._ticked_s = now_s
        self._served_s = self._served_s + passed_s if self.active is not None else 0.0
        for leash in self._leashes:
            leash.shorten(passed_s)
        if self._restart_in_s is None or self._running is None:
            return
        self._restart_in_s -= passed_s
        if self._restart_in_s <= 0:
            log.info("restarting the worker of %s:%s", self._running.model, self._running.version)
            self._restart_in_s = None
            self._start_active(self._running, None)

    def make_room(self) -> None:
        """Memory holds one worker only: the serving one leaves, and none takes its place until somebody
        says so (`try_out`, `keep`)."""
        if self.active is not None:
            self._let_go(self.active)
        self.active, self._running, self._restart_in_s = None, None, None

    @property
    def has_room(self) -> bool:
        """Whether every worker that had to leave has ended."""
        return all(leash.worker in (self.active, self.candidate) for leash in self._leashes)

    def close(self) -> None:
        """Stop all of them; at most twice `STOP_WITHIN_S`, however many hang."""
        for leash in self._leashes:
            leash.worker.stop()
        for why in ("the agent ends", "the agent ended"):
            deadline_s = time.monotonic() + STOP_WITHIN_S
            for leash in self._leashes:
                if not leash.worker.wait(max(0.0, deadline_s - time.monotonic())):
                    leash.worker.kill(why)

    def _start_active(self, running: Running, trial_s: float | None) -> None:
        try:
            self.active = self._start(running, trial_s)
        except OSError as exc:
            self._restart_in_s = self.backoff.next_delay_s()
            log.error("no inference worker can be started: %s; next in %.0f s", exc, self._restart_in_s)

    def _start(self, running: Running, trial_s: float | None) -> Worker:
        worker = self.start(self.make_spec(running, trial_s), self.notify)
        self._leashes.append(Leash(worker, READY_WITHIN_S, f"it was not ready within {READY_WITHIN_S:g} s"))
        return worker

    def _let_go(self, worker: Worker) -> None:
        worker.drain()
        # It lingers once for requests to come and once for those that it answers.
        self._leash(worker, 2 * worker.spec.linger_s + STOP_WITHIN_S, "it did not leave within")

    def _stop(self, worker: Worker) -> None:
        worker.stop()
        self._leash(worker, STOP_WITHIN_S, "it did not end within")

    def _leash(self, worker: Worker, seconds: float, why: str) -> None:
        for leash in self._leashes:
            if leash.worker is worker:
                leash.set(seconds, why)
