"""The composition root of the agent: one state folder becomes one running supervisor."""

import queue
import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import uuid4

from fleet_agent.floor import load_floor_ms
from fleet_agent.identity import Identity, load_identity
from fleet_agent.intake import Intake
from fleet_agent.journal import Journal
from fleet_agent.leftovers import remove_leftovers
from fleet_agent.link.backoff import Backoff
from fleet_agent.link.connection import Connection
from fleet_agent.link.outbox import Outbox
from fleet_agent.link.sender import Sender
from fleet_agent.paths import StatePaths
from fleet_agent.ports import Clock, Link, Trust
from fleet_agent.reporter import Reporter
from fleet_agent.runtimes.found import find_runtimes
from fleet_agent.serving import Listeners
from fleet_agent.settings import Settings
from fleet_agent.slots import Slots
from fleet_agent.supervisor import Downloaded, Message, Supervisor
from fleet_agent.telemetry.clock import DeviceClock
from fleet_agent.telemetry.facts import load_facts
from fleet_agent.transfer.download import Downloader
from fleet_agent.transfer.urls import BlobUrls
from fleet_agent.trust_process import TrustProcess
from fleet_agent.update.install import Installer, plan_transfer
from fleet_agent.update.jobs import Jobs, SlowJobs
from fleet_agent.update.record import Evidence, RecordFile, UpdateRecord
from fleet_agent.update.runner import UpdateRunner
from fleet_agent.uplink import Uplink
from fleet_agent.worker.protocol import SourceSpec, Trial, WorkerSpec
from fleet_agent.workers import MakeSpec, Workers
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.reported import Facts, Running
from fleet_shared.topics import Topics

TRIAL_INTERVAL_MIN_S: Final = 1.0
"""However short the soak: no more rows of statistics than one a second."""


@dataclass
class DeviceJobs:
    """The slow effects, bound to this device."""

    installer: Installer
    inbox: "queue.SimpleQueue[Message]"
    urls: BlobUrls

    def download(self, record: UpdateRecord, aborted: threading.Event) -> Evidence:
        if self.installer.is_installed(record.entry, record.manifest):
            return {"bytes_fetched": 0, "bytes_resumed": 0}
        plan = plan_transfer(record.entry, parse_manifest(record.manifest).blobs)
        self.inbox.put(Downloaded(0, sum(carried.encoded.encoded_bytes for carried in plan)))
        downloader = Downloader(
            folder=self.installer.downloads,
            url_of=partial(self.urls.ask, record.entry.assignment, aborted=aborted),
            progress=lambda count: self.inbox.put(Downloaded(count)),
            aborted=aborted,
            backoff=Backoff(1.0, 60.0, random.random),
        )
        return self.installer.download(record.entry, record.manifest, downloader)

    def verify(self, record: UpdateRecord, aborted: threading.Event) -> Evidence:
        return self.installer.verify(record.entry, record.manifest, aborted)


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
    urls = BlobUrls(identity.controller_url, send=inbox.put)
    installer = Installer(slots, paths.downloads, partial(_free_bytes, paths), settings.disk_margin_bytes)
    return wire(
        settings,
        identity,
        facts=load_facts(paths.root, find_runtimes()),
        clock=DeviceClock(partial(load_floor_ms, paths.floor)),
        inbox=inbox,
        outbox=Outbox(paths.outbox, uuid4().hex),
        slots=slots,
        link=_connection(identity, inbox),
        trust=TrustProcess(),
        jobs=DeviceJobs(installer, inbox, urls),
        urls=urls,
        workers=Workers(
            make_spec=_spec_maker(settings, slots, listeners),
            notify=inbox.put,
            backoff=Backoff(1.0, 60.0, random.random),
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
    urls: BlobUrls,
    workers: Workers,
) -> Supervisor:
    """Put a supervisor together around its edges."""
    paths = StatePaths(settings.state)
    journal = Journal(outbox, clock)
    sender = Sender(outbox, jitter=lambda: 0.8 + 0.4 * random.random())
    updates = UpdateRunner(
        file=RecordFile(paths.record),
        slots=slots,
        workers=workers,
        jobs=jobs,
        slow=SlowJobs(inbox.put),
        clock=clock,
        witness=journal,
        retry=Backoff(1.0, 60.0, random.random),
    )
    supervisor = Supervisor(
        settings=settings,
        paths=paths,
        identity=identity,
        facts=facts,
        clock=clock,
        inbox=inbox,
        uplink=Uplink(link, sender, Backoff(1.0, 60.0, random.random)),
        reporter=Reporter(link),
        journal=journal,
        intake=Intake(
            ask=lambda envelope: supervisor.verify(envelope),
            backoff=Backoff(2.0, 300.0, random.random),
            journal=journal,
        ),
        workers=workers,
        updates=updates,
        urls=urls,
        trust=trust,
    )
    return supervisor


def _connection(identity: Identity, inbox: "queue.SimpleQueue[Message]") -> Connection:
    return Connection(
        identity.device,
        Topics(identity.topic_root),
        identity.broker,
        notify=inbox.put,
        new_session=lambda: uuid4().hex,
    )


def _free_bytes(paths: StatePaths) -> int:
    return shutil.disk_usage(paths.root).free


def _spec_maker(settings: Settings, slots: Slots, listeners: Listeners) -> MakeSpec:
    source = None
    if settings.source:
        source = SourceSpec(path=settings.source, rate_hz=settings.source_rate_hz, loop=settings.source_loop)

    def make(running: Running, trial_s: float | None) -> WorkerSpec:
        return WorkerSpec(
            slot=str(slots.path(running.manifest)),
            manifest=running.manifest,
            assignment=running.assignment,
            runtime=running.runtime,
            threads=settings.threads,
            listen_fds=listeners.fds,
            stats_interval_s=settings.stats_interval_s,
            trial=plan_trial(settings.stats_interval_s, trial_s),
            linger_s=settings.linger_s,
            source=source,
        )

    return make


def plan_trial(usual_s: float, trial_s: float | None) -> Trial | None:
    """Return how often a worker reports on trial: at least twice within the soak, and once after it,
    so that the soak does not wait for the usual interval."""
    if trial_s is None:
        return None
    interval_s = min(usual_s, max(TRIAL_INTERVAL_MIN_S, trial_s / 2))
    return Trial(interval_s=interval_s, lasts_s=trial_s + 2 * interval_s)
