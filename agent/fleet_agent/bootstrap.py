"""The composition root of the agent: one state folder becomes one running supervisor."""

import math
import queue
import random
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

from fleet_agent.benchmark.device import Benchmarks, BenchmarkTerms
from fleet_agent.benchmark.kept import KeptTables
from fleet_agent.benchmark.measuring import Measuring
from fleet_agent.floor import DeviceTime, judge_time, load_floor_ms
from fleet_agent.freshness import Freshness
from fleet_agent.identity import Identity, load_identity, note_secured
from fleet_agent.intake import Intake
from fleet_agent.journal import Journal
from fleet_agent.leash import Terms
from fleet_agent.leftovers import remove_leftovers
from fleet_agent.link.backoff import Backoff
from fleet_agent.link.connection import Connection
from fleet_agent.link.outbox import Outbox, OutboxLimits
from fleet_agent.link.sender import Sender
from fleet_agent.paths import StatePaths
from fleet_agent.ports import Clock, Link, Trust
from fleet_agent.renewal import Renewal
from fleet_agent.renewer import Renewed, Renewer
from fleet_agent.reporter import Reporter
from fleet_agent.runtimes.found import Found, find_runtimes, parse_allowed
from fleet_agent.serving import Listeners
from fleet_agent.settings import Settings
from fleet_agent.slots import Slots
from fleet_agent.supervisor import Downloaded, Message, Supervisor
from fleet_agent.telemetry.clock import DeviceClock
from fleet_agent.telemetry.facts import load_facts
from fleet_agent.telemetry.host import read_available_bytes
from fleet_agent.tls import broker_context, https_context
from fleet_agent.transfer.allowance import Allowance
from fleet_agent.transfer.answer import HttpSource
from fleet_agent.transfer.broker import BrokerFiles, BrokerSource
from fleet_agent.transfer.download import Downloader
from fleet_agent.transfer.flow import Flow
from fleet_agent.transfer.questions import Questions
from fleet_agent.transfer.response import Source
from fleet_agent.transfer.urls import BlobUrls
from fleet_agent.transfer.ways import Reach, Transfers, choose_source, parse_transfers
from fleet_agent.trust_process import TrustProcess
from fleet_agent.trust_report import load_note
from fleet_agent.trusting import Trusting
from fleet_agent.update.gap import Gap
from fleet_agent.update.inspection import Inspection
from fleet_agent.update.install import Installer, plan_transfer
from fleet_agent.update.jobs import Jobs, SlowJobs
from fleet_agent.update.record import Evidence, RecordFile, UpdateRecord
from fleet_agent.update.repair import AGAIN_AFTER_S, AGAIN_CEILING_S
from fleet_agent.update.room import check_memory, is_tight
from fleet_agent.update.runner import UpdateRunner
from fleet_agent.update.saved import Saved
from fleet_agent.uplink import Uplink
from fleet_agent.watch import SILENT_S, Bounds
from fleet_agent.worker.protocol import Limits, SourceSpec, Trial, WorkerSpec
from fleet_agent.workers import MakeSpec, Workers
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.reported import Facts, Running
from fleet_shared.names import AssignmentId
from fleet_shared.topics import Topics

TRIAL_INTERVAL_MIN_S: Final = 1.0
"""However short the soak: no more rows of statistics than one a second."""
TRIAL_INTERVAL_MAX_S: Final = 30.0
"""However long the soak: a trial that waits for inferences hears of them soon."""
BENCHMARK_WITHIN_S: Final = 1200.0
"""Well within the limit of `VERIFYING`: what is measured by then is the choice."""
BENCHMARK_SHARE: Final = 0.5
"""Of what is left until the deadline; the rest is for the self-test and the trial."""
MEMORY_SHARE: Final = 0.75
"""What a worker may have of the machine's memory, unless somebody says otherwise."""


@dataclass
class DeviceJobs:
    """The slow effects, bound to this device."""

    installer: Installer
    inbox: "queue.SimpleQueue[Message]"
    urls: BlobUrls
    spent: Path
    clock: Clock
    memory_margin_bytes: int = 0
    retry_ceiling_s: float = 60.0
    benchmarks: Benchmarks | None = None
    transfers: Transfers = Transfers.AUTO
    reach: Reach = field(default_factory=Reach)
    tls: Callable[[], ssl.SSLContext] | None = None

    def is_tight(self, record: UpdateRecord) -> bool:
        return is_tight(record, read_available_bytes(), self.memory_margin_bytes)

    def download(self, record: UpdateRecord, aborted: threading.Event) -> Evidence:
        check_memory(record, read_available_bytes(), self.memory_margin_bytes)
        if self.installer.is_installed(record.entry, record.manifest):
            return {"bytes_fetched": 0, "bytes_resumed": 0}
        plan = plan_transfer(record.entry, parse_manifest(record.manifest).blobs)
        self.inbox.put(Downloaded(0, sum(carried.encoded.encoded_bytes for carried in plan)))
        downloader = Downloader(
            folder=self.installer.downloads,
            source=self._source(record.entry.assignment, aborted),
            progress=lambda count: self.inbox.put(Downloaded(count)),
            aborted=aborted,
            backoff=Backoff(1.0, self.retry_ceiling_s, random.random),
            allowance=Allowance(self.spent, record.entry.assignment, record.policy.bytes_max),
            wall_s=self._wall_s,
        )
        return self.installer.download(record.entry, record.manifest, downloader)

    def _source(self, assignment: AssignmentId, aborted: threading.Event) -> Source:
        http = HttpSource(partial(self.urls.ask, assignment, aborted=aborted), tls=self.tls)
        broker = BrokerSource(self.urls.questions, assignment, Flow())
        return choose_source(self.transfers, http, broker, self.reach, self.clock.boot_s)

    def verify(self, record: UpdateRecord, aborted: threading.Event) -> Evidence:
        evidence = self.installer.verify(record.entry, record.manifest, aborted)
        if record.policy.benchmark and self.benchmarks is not None:
            slot = self.installer.slots.path(record.entry.manifest)
            evidence |= self.benchmarks.take(
                slot, record.target, record.manifest, self._benchmark_terms(record, aborted)
            )
        return evidence

    def _benchmark_terms(self, record: UpdateRecord, aborted: threading.Event) -> BenchmarkTerms:
        """The state that it runs in has a limit and the update a deadline: neither may be lost to it."""
        left_s = record.deadline_ms / 1000 - self.clock.boot_s()
        total_s = min(BENCHMARK_WITHIN_S, left_s * BENCHMARK_SHARE)
        return BenchmarkTerms(aborted, total_s, record.policy.memory_bytes_max)

    def _wall_s(self) -> float | None:
        wall_ms = self.clock.now().wall_ms
        return None if wall_ms is None else wall_ms / 1000


@contextmanager
def build_supervisor(settings: Settings) -> Iterator[Supervisor]:
    """Build the agent of ``settings.state``, which nobody else runs. Raises `AgentError` when it cannot
    start."""
    paths = StatePaths(settings.state)
    identity = load_identity(paths.identity)
    remove_leftovers(paths)
    listeners = Listeners(settings.http_port, paths.root / "inference.sock")
    try:
        yield _wire_device(settings, paths, identity, listeners)
    finally:
        listeners.close()


def _wire_device(
    settings: Settings, paths: StatePaths, identity: Identity, listeners: Listeners
) -> Supervisor:
    """The edges of a real device: broker, trust child, worker processes, the disk."""
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    slots = Slots(paths.slots, paths.pointers)
    questions = Questions(send=inbox.put)
    installer = Installer(slots, paths.downloads, partial(_free_bytes, paths), settings.disk_margin_bytes)
    found = find_device_runtimes(settings)
    facts = load_facts(paths.root, found.usable, found.unavailable)
    benchmarks = Benchmarks(
        runtimes=facts.runtimes,
        cpu_count=facts.cpu_count,
        measuring=lambda slot: Measuring(slot, paths.compiled, worker_limits(settings)),
        kept=KeptTables(paths.benchmarks),
        report=inbox.put,
        cpus_max=settings.worker_cpus,
    )
    clock = DeviceClock(partial(load_floor_ms, paths.floor))
    transfers = parse_transfers(settings.transfers)
    other_way = None if transfers is Transfers.HTTP else BrokerFiles(questions).fetch_file
    trust = TrustProcess(fetch_file=other_way)
    jobs = DeviceJobs(
        installer=installer,
        inbox=inbox,
        urls=BlobUrls(identity.controller_url, questions),
        spent=paths.spent,
        clock=clock,
        memory_margin_bytes=settings.memory_margin_bytes,
        retry_ceiling_s=settings.retry_ceiling_s,
        benchmarks=benchmarks,
        transfers=transfers,
        tls=lambda: https_context(_read(paths.authorities).decode(), partial(_time, paths, clock)),
    )
    return wire(
        settings,
        identity,
        facts=facts,
        clock=clock,
        inbox=inbox,
        outbox=Outbox(paths.outbox, uuid4().hex, _outbox_limits(settings)),
        slots=slots,
        link=_connection(identity, inbox, paths, clock),
        trust=trust,
        renew=Renewer(identity, paths, questions, trust.ask, lambda: clock.now().wall_ms).start,
        jobs=jobs,
        is_tight=jobs.is_tight,
        questions=questions,
        workers=Workers(
            make_spec=_spec_maker(settings, slots, listeners, paths),
            notify=inbox.put,
            backoff=Backoff(1.0, 60.0, random.random),
            bounds=plan_bounds(settings, facts.memory_bytes),
            budget=settings.worker_restarts,
            slow_restart_s=settings.worker_slow_restart_s,
            ready_within_s=settings.worker_ready_s,
        ),
    )


def wire(
    settings: Settings,
    identity: Identity,
    *,
    facts: Facts,
    clock: Clock,
    inbox: "queue.SimpleQueue[Message]",
    outbox: Outbox,
    slots: Slots,
    link: Link,
    trust: Trust,
    jobs: Jobs,
    questions: Questions,
    workers: Workers,
    renew: Callable[[Callable[[Renewed], None]], None],
    is_tight: Callable[[UpdateRecord], bool] = lambda _record: False,
) -> Supervisor:
    """Put a supervisor together around its edges."""
    paths = StatePaths(settings.state)
    journal = Journal(outbox, clock)
    sender = Sender(outbox, jitter=lambda: 0.8 + 0.4 * random.random())
    updates = _wire_updates(settings, clock, inbox, slots, jobs, workers, journal, is_tight)
    trusting = _wire_trusting(settings, identity, clock, inbox, trust, renew)
    return Supervisor(
        settings=settings,
        paths=paths,
        facts=facts,
        clock=clock,
        inbox=inbox,
        uplink=Uplink(link, sender, Backoff(1.0, settings.retry_ceiling_s, random.random)),
        reporter=Reporter(link),
        journal=journal,
        intake=Intake(
            ask=trusting.verify,
            backoff=Backoff(2.0, 300.0, random.random),
            journal=journal,
        ),
        workers=workers,
        updates=updates,
        questions=questions,
        trusting=trusting,
    )


def _wire_updates(
    settings: Settings,
    clock: Clock,
    inbox: "queue.SimpleQueue[Message]",
    slots: Slots,
    jobs: Jobs,
    workers: Workers,
    journal: Journal,
    is_tight: Callable[[UpdateRecord], bool],
) -> UpdateRunner:
    paths = StatePaths(settings.state)
    return UpdateRunner(
        saved=Saved(
            RecordFile(paths.record), slots, clock, Backoff(1.0, settings.retry_ceiling_s, random.random)
        ),
        gap=Gap(workers, clock, is_tight),
        workers=workers,
        jobs=jobs,
        slow=SlowJobs(inbox.put),
        clock=clock,
        witness=journal,
        retry=Backoff(1.0, settings.retry_ceiling_s, random.random),
        repair=Backoff(AGAIN_AFTER_S, AGAIN_CEILING_S, random.random),
        inspection=Inspection(slots, inbox.put),
        spare_bytes=settings.spare_slots_bytes,
    )


def _wire_trusting(
    settings: Settings,
    identity: Identity,
    clock: Clock,
    inbox: "queue.SimpleQueue[Message]",
    trust: Trust,
    renew: Callable[[Callable[[Renewed], None]], None],
) -> Trusting:
    paths = StatePaths(settings.state)
    trusting = Trusting(
        identity=identity,
        paths=paths,
        clock=clock,
        answers=inbox,
        trust=trust,
        freshness=Freshness(
            ask=lambda: trusting.refresh(),
            backoff=Backoff(30.0, 3600.0, random.random),
            random=random.random,
            seen=_read(paths.timestamp),
        ),
        renewal=Renewal(
            start=lambda: renew(inbox.put),
            backoff=Backoff(60.0, 6 * 3600.0, random.random),
            random=random.random,
        ),
        believed=load_note(paths.trust_report),
        http=parse_transfers(settings.transfers) is not Transfers.MQTT,
    )
    return trusting


def find_device_runtimes(settings: Settings) -> Found:
    """Raises `SettingsError` for a runtime that nobody knows."""
    return find_runtimes(parse_allowed(settings.runtimes), StatePaths(settings.state).runtimes)


def _connection(
    identity: Identity, inbox: "queue.SimpleQueue[Message]", paths: StatePaths, clock: Clock
) -> Connection:
    return Connection(
        identity.device,
        Topics(identity.topic_root),
        identity.broker,
        notify=inbox.put,
        new_session=lambda: uuid4().hex,
        tls=lambda: broker_context(paths.identity, partial(_time, paths, clock)),
        secured=partial(note_secured, paths.identity),
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _time(paths: StatePaths, clock: Clock) -> DeviceTime:
    return judge_time(paths.floor, clock.now().wall_ms)


def _outbox_limits(settings: Settings) -> OutboxLimits:
    return OutboxLimits(
        rows=settings.outbox_rows, bytes=settings.outbox_bytes, age_s=settings.outbox_days * 24 * 3600
    )


def _free_bytes(paths: StatePaths) -> int:
    return shutil.disk_usage(paths.root).free


def _spec_maker(settings: Settings, slots: Slots, listeners: Listeners, paths: StatePaths) -> MakeSpec:
    source = None
    if settings.source:
        source = SourceSpec(path=settings.source, rate_hz=settings.source_rate_hz, loop=settings.source_loop)

    def make(running: Running, terms: Terms) -> WorkerSpec:
        return WorkerSpec(
            slot=str(slots.path(running.manifest)),
            manifest=running.manifest,
            assignment=running.assignment,
            runtime=running.runtime,
            threads=running.threads or settings.threads,
            listen_fds=listeners.fds,
            stats_interval_s=settings.stats_interval_s,
            trial=plan_trial(settings.stats_interval_s, terms),
            limits=worker_limits(settings),
            linger_s=settings.linger_s,
            source=source,
            compiled=str(paths.compiled),
        )

    return make


def worker_limits(settings: Settings) -> Limits:
    return Limits(nice=settings.worker_nice, cpus=settings.worker_cpus)


def plan_trial(usual_s: float, terms: Terms) -> Trial | None:
    """Return how often a worker reports on trial: at least twice within the soak, and once after it,
    so that the soak does not wait for the usual interval; also while it waits for inferences."""
    trial_s = terms.soak_s
    if trial_s is None:
        return None
    longest_s = TRIAL_INTERVAL_MAX_S if terms.soak_inferences else math.inf
    interval_s = min(usual_s, max(TRIAL_INTERVAL_MIN_S, trial_s / 2), longest_s)
    return Trial(interval_s=interval_s, lasts_s=trial_s + 2 * interval_s, inferences=terms.soak_inferences)


def plan_bounds(settings: Settings, memory_bytes: int) -> Bounds:
    """Return what a worker may take on a machine with ``memory_bytes`` (0: unknown, and no bound)."""
    bound = settings.worker_memory_bytes_max or int(MEMORY_SHARE * memory_bytes) or None
    return Bounds(
        hang_s=settings.worker_hang_s,
        silent_s=max(SILENT_S, settings.worker_hang_s / 2),
        memory_bytes=bound,
        growth_bytes=settings.worker_growth_bytes_max,
        growth_window_s=settings.worker_growth_window_s,
    )
