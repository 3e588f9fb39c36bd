"""Which worker serves, and which is on trial. The serving one is restarted when it ends.

Every worker is watched: by a leash (a time within which it must be ready, serve, or leave) and by what
it is doing (`watch`). Time counts only while the supervisor's loop runs (`passed`).
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from fleet_agent.errors import WorkerError
from fleet_agent.leash import Leash, Terms
from fleet_agent.link.backoff import Backoff
from fleet_agent.passed import Passed
from fleet_agent.ports import Worker
from fleet_agent.restarts import Restarts
from fleet_agent.watch import Bounds, Verdict, Watch
from fleet_agent.worker.protocol import WorkerSpec
from fleet_agent.worker_process import Notify, WorkerProcess
from fleet_shared.messages.reported import Failure, Running, WorkerReport, WorkerState

log = logging.getLogger(__name__)

READY_WITHIN_S: Final = 180.0
"""Load, warm up and golden vectors: a large model from a memory card takes its time."""
SERVE_WITHIN_S: Final = 30.0
"""From the command to serve to the first accepted connection there is next to nothing to do."""
LOOK_EVERY_S: Final = 0.5
HEALTHY_AFTER_S: Final = 600.0
"""A worker that served so long did not end because of its start: the next one begins at once again."""
STOP_WITHIN_S: Final = 5.0
FINISH_LINGER_S: Final = 0.2
"""At the end of the agent nobody accepts any more: idle connections are not waited for longer."""


FOR_GOOD: Final = Terms()
MakeSpec = Callable[[Running, Terms], WorkerSpec]


@dataclass(frozen=True)
class Lost:
    """A worker ended that served or was on trial. ``restarts``: in a row, the one to come included;
    ``gives_up``: with this end the budget of restarts is spent. ``failure``: what the worker said."""

    restarts: int
    next_in_s: float | None
    gives_up: bool
    failure: Failure | None
    served_s: float


@dataclass
class Workers:
    """``make_spec`` says how to start a worker for an installed model; ``start`` starts one or raises
    `OSError`. ``budget`` restarts in a row come after ``backoff``, later ones each ``slow_restart_s``.
    ``changed`` counts up whenever `report` gives something new."""

    make_spec: MakeSpec
    notify: Notify
    backoff: Backoff
    start: Callable[[WorkerSpec, Notify], Worker] = WorkerProcess
    bounds: Bounds = field(default_factory=Bounds)
    budget: int = 10
    slow_restart_s: float = 600.0
    ready_within_s: float = READY_WITHIN_S
    active: Worker | None = None
    candidate: Worker | None = None
    changed: int = 0
    _running: Running | None = None
    _terms: Terms = FOR_GOOD
    _serves: bool = False
    _failure: Failure | None = None
    _restart_in_s: float | None = None
    _leashes: list[Leash] = field(default_factory=list)
    _passed: Passed = field(default_factory=Passed)
    _unseen_s: float = 0.0
    _served_s: float = 0.0

    def __post_init__(self) -> None:
        self._restarts = Restarts(self.backoff, self.budget, self.slow_restart_s, random.random)

    # -- what runs

    def keep(self, running: Running | None, terms: Terms = FOR_GOOD) -> None:
        """From now on this model serves (or none); whoever served another one leaves, and nobody is
        on trial beside it. One that cannot be started is tried again."""
        self.dismiss_candidate()
        self.give_way(running, terms)

    def give_way(self, running: Running | None, terms: Terms = FOR_GOOD) -> None:
        """As `keep`, and whoever is on trial goes on."""
        if running is not None and running == self._running:
            return  # it serves, or its restart is planned
        if self.active is not None:
            self._let_go(self.active)
        self._take_up(None, running, terms)
        if running is not None:
            self._start_active(running)

    def try_out(self, running: Running, terms: Terms) -> None:
        """Start a worker for a model on trial beside the serving one; raise `WorkerError`
        (``worker.start``)."""
        self.dismiss_candidate()
        try:
            self.candidate = self._start(running, terms)
        except OSError as exc:
            raise WorkerError(
                f"no inference worker can be started: {exc}",
                hint="is there enough memory for two workers? the running model goes on",
                code="worker.start",
            ) from exc

    def dismiss_candidate(self) -> None:
        candidate, self.candidate = self.candidate, None
        if candidate is not None:
            candidate.stop()
            self._leash(candidate, STOP_WITHIN_S, "it did not end within")

    def promote(self, running: Running, terms: Terms) -> None:
        """The candidate serves from now on; the old one answers what it has and leaves."""
        old, candidate, self.candidate = self.active, self.candidate, None
        self._take_up(candidate, running, terms)
        if candidate is not None:
            self.serve(candidate)
        else:
            self._restart_in_s = 0.0
        if old is not None:
            self._let_go(old)

    def serve(self, worker: Worker) -> None:
        """Tell a worker that is ready to accept requests."""
        worker.serve()
        self._leash(worker, SERVE_WITHIN_S, "it did not serve within")

    # -- what a worker does

    def on_ready(self, worker: Worker) -> None:
        if (leash := self._find(worker)) is not None:
            leash.free()

    def on_serving(self, worker: Worker) -> None:
        if (leash := self._find(worker)) is not None:
            leash.free()
            leash.serves = True
        if worker is self.active:
            self._serves = True
            self.changed += 1

    def on_failed(self, worker: Worker, failure: Failure) -> None:
        """The worker cannot run its model, and is about to end."""
        if (leash := self._find(worker)) is not None:
            leash.failure = failure
            leash.set(STOP_WITHIN_S, "it said that it cannot run its model, and did not end within")

    def forget(self, exited: Worker, failure: Failure | None = None) -> Lost | None:
        """A worker ended, for ``failure`` unless it said why itself: plan the restart if it was the serving
        one. Return what is lost, none where nobody needed it any more."""
        leash = self._find(exited)
        self._leashes = [other for other in self._leashes if other is not leash]
        said = None if leash is None else leash.failure
        if exited is self.candidate:
            self.candidate = None
            return Lost(restarts=0, next_in_s=None, gives_up=False, failure=said, served_s=0.0)
        if exited is not self.active:
            return None
        served_s = self._served_s
        if served_s >= HEALTHY_AFTER_S:
            self._restarts.reset()
        self.active, self._serves, self._failure = None, False, said or failure
        had_given_up = self._restarts.given_up
        self._restart_in_s = self._restarts.plan_s()
        self.changed += 1
        return Lost(
            restarts=self._restarts.count,
            next_in_s=self._restart_in_s,
            gives_up=self._restarts.given_up and not had_given_up,
            failure=said,
            served_s=served_s,
        )

    def leave(self, exited: Worker) -> bool:
        """A worker ended while the agent ends; tell whether others that served have not yet."""
        self._leashes = [leash for leash in self._leashes if leash.worker is not exited]
        return any(leash.serves and not leash.killed for leash in self._leashes)

    def find_running(self, worker: Worker) -> Running | None:
        """Return the model of a worker that has not ended."""
        leash = self._find(worker)
        return None if leash is None else leash.running

    def get_rss_max_bytes(self, worker: Worker) -> int:
        """Return the most memory that was seen."""
        leash = self._find(worker)
        return 0 if leash is None else leash.watch.rss_max_bytes

    @property
    def report(self) -> WorkerReport | None:
        """What the controller sees of the serving model's worker; none where no model is installed."""
        if self._running is None:
            return None
        state = WorkerState.SERVING if self._serves else WorkerState.STARTING
        if self.active is None:
            state = WorkerState.GIVEN_UP if self._restarts.given_up else WorkerState.RESTARTING
        return WorkerReport(state=state, restarts=self._restarts.count, failure=self._failure)

    # -- time

    def tick(self, now_s: float) -> None:
        passed_s = self._passed.take_s(now_s)
        self._count_served(passed_s)
        for leash in self._leashes:
            leash.shorten(passed_s)
        self._unseen_s += passed_s
        if self._unseen_s >= LOOK_EVERY_S:
            unseen_s, self._unseen_s = self._unseen_s, 0.0
            for leash in self._leashes:
                leash.look(unseen_s)
        if self._restart_in_s is None or self._running is None:
            return
        self._restart_in_s -= passed_s
        if self._restart_in_s <= 0:
            log.info("restarting the worker of %s:%s", self._running.model, self._running.version)
            self._restart_in_s = None
            self._start_active(self._running)

    def settle(self) -> None:
        """The trial is over: whoever is started from now on is on none."""
        self._terms = replace(self._terms, soak_s=None, soak_inferences=0, restarts_max=0)
        self._restarts.budget = self.budget

    def finish(self) -> bool:
        """The agent ends: ask whoever serves to say its last word and leave; tell whether any does."""
        serving = [leash for leash in self._leashes if leash.serves and not leash.killed]
        for leash in serving:
            leash.worker.drain(FINISH_LINGER_S)
        return bool(serving)

    def make_room(self) -> None:
        """Memory holds one worker only: the serving one leaves, and none takes its place until somebody
        says so (`try_out`, `keep`)."""
        if self.active is not None:
            self._let_go(self.active)
        self.active, self._running, self._restart_in_s, self._serves = None, None, None, False
        self.changed += 1

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
                    leash.worker.kill(Verdict(code="worker.late", why=why))

    # -- inside

    def _take_up(self, worker: Worker | None, running: Running | None, terms: Terms) -> None:
        self.active, self._running, self._terms = worker, running, terms
        self._restart_in_s, self._serves, self._failure, self._served_s = None, False, None, 0.0
        self._restarts.reset()
        self._restarts.budget = max(self.budget, terms.restarts_max)
        self.changed += 1

    def _count_served(self, passed_s: float) -> None:
        before_s = self._served_s
        self._served_s = before_s + passed_s if self._serves else 0.0
        if before_s < HEALTHY_AFTER_S <= self._served_s and self._failure is not None:
            self._restarts.reset()
            self._failure = None
            self.changed += 1

    def _start_active(self, running: Running) -> None:
        self.changed += 1
        try:
            self.active = self._start(running, self._terms)
        except OSError as exc:
            self._restart_in_s = self.backoff.next_delay_s()
            log.error("no inference worker can be started: %s; next in %.0f s", exc, self._restart_in_s)

    def _start(self, running: Running, terms: Terms) -> Worker:
        worker = self.start(self.make_spec(running, terms), self.notify)
        watch = Watch(_tighten(self.bounds, terms.memory_bytes_max))
        leash = Leash(worker, running, terms, watch, None, "")
        leash.set(self.ready_within_s, "it was not ready within")
        self._leashes.append(leash)
        return worker

    def _let_go(self, worker: Worker) -> None:
        worker.drain()
        # It lingers once for requests to come and once for those that it answers.
        self._leash(worker, 2 * worker.spec.linger_s + STOP_WITHIN_S, "it did not leave within")

    def _leash(self, worker: Worker, seconds: float, why: str) -> None:
        if (leash := self._find(worker)) is not None:
            leash.set(seconds, why)

    def _find(self, worker: Worker) -> Leash | None:
        return next((leash for leash in self._leashes if leash.worker is worker), None)


def _tighten(bounds: Bounds, memory_bytes_max: int | None) -> Bounds:
    """Return ``bounds`` with the smaller of the two bounds of memory."""
    given = [bound for bound in (bounds.memory_bytes, memory_bytes_max) if bound is not None]
    return replace(bounds, memory_bytes=min(given, default=None))
