"""Which worker serves, and which is on trial. The serving one is restarted when it ends."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet_agent.link.backoff import Backoff
from fleet_agent.worker.protocol import WorkerSpec
from fleet_agent.worker_process import WorkerExited, WorkerProcess, WorkerSaid
from fleet_shared.messages.reported import Running

log = logging.getLogger(__name__)

Notify = Callable[[WorkerSaid | WorkerExited], None]


@dataclass
class Workers:
    """``make_spec`` says how to start a worker for an installed model."""

    make_spec: Callable[[Running], WorkerSpec]
    notify: Notify
    backoff: Backoff
    active: WorkerProcess | None = None
    candidate: WorkerProcess | None = None
    _running: Running | None = None
    _restart_at_s: float | None = None
    _leaving: list[WorkerProcess] = field(default_factory=list)

    def keep(self, running: Running | None) -> None:
        """From now on this model serves (or none); whoever served another one leaves."""
        if self.active is not None:
            self._let_go(self.active)
        self.active, self._running, self._restart_at_s = None, running, None
        if running is not None:
            self.active = WorkerProcess(self.make_spec(running), self.notify)

    def try_out(self, running: Running) -> None:
        """Start a worker for a model on trial beside the serving one."""
        self.dismiss_candidate()
        self.candidate = WorkerProcess(self.make_spec(running), self.notify)

    def dismiss_candidate(self) -> None:
        candidate, self.candidate = self.candidate, None
        if candidate is not None:
            candidate.stop()

    def promote(self, running: Running) -> None:
        """The candidate serves from now on; the old one answers what it has and leaves."""
        old, self.active, self.candidate = self.active, self.candidate, None
        self._running, self._restart_at_s = running, None
        self.backoff.reset()
        if self.active is not None:
            self.active.serve()
        if old is not None:
            self._let_go(old)

    def forget(self, exited: WorkerProcess, now_s: float) -> None:
        """A worker ended: plan the restart if it was the serving one."""
        if exited in self._leaving:
            self._leaving.remove(exited)
        if exited is self.candidate:
            self.candidate = None
        if exited is self.active:
            self.active = None
            self._restart_at_s = now_s + self.backoff.next_delay_s()

    def tick(self, now_s: float) -> None:
        if self._restart_at_s is not None and now_s >= self._restart_at_s and self._running is not None:
            log.info("restarting the worker of %s:%s", self._running.model, self._running.version)
            self._restart_at_s = None
            self.active = WorkerProcess(self.make_spec(self._running), self.notify)

    def close(self) -> None:
        for worker in (self.candidate, self.active, *self._leaving):
            if worker is not None:
                worker.stop()

    def _let_go(self, worker: WorkerProcess) -> None:
        self._leaving.append(worker)
        worker.drain()
