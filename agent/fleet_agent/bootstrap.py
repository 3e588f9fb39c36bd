"""The composition root of the agent: one state folder becomes one running supervisor."""

import queue
import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from fleet_agent.identity import Identity, load_identity
from fleet_agent.link.backoff import Backoff
from fleet_agent.link.connection import Connection
from fleet_agent.link.outbox import Outbox
from fleet_agent.link.sender import Sender
from fleet_agent.paths import StatePaths
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
from fleet_agent.update.record import Evidence, RecordFile, UpdateRecord
from fleet_agent.update.runner import UpdateRunner
from fleet_agent.worker.protocol import SourceSpec, WorkerSpec
from fleet_agent.workers import Workers
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.reported import Running
from fleet_shared.topics import Topics


@dataclass
class DeviceJobs:
    """The slow effects, bound to this device."""

    installer: Installer
    inbox: "queue.SimpleQueue[Message]"
    urls: BlobUrls

    def download(self, record: UpdateRecord, aborted: threading.Event) -> Evidence:
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

    def verify(self, record: UpdateRecord) -> Evidence:
        return self.installer.verify(record.entry, record.manifest)


@contextmanager
def build_supervisor(settings: Settings) -> Iterator[Supervisor]:
    """Build the agent of ``settings.state``. Raises `AgentError` when it cannot start."""
    paths = StatePaths(settings.state)
    identity = load_identity(paths.identity)
    listeners = Listeners(settings.http_port, paths.root / "inference.sock")
    try:
        yield _wire(settings, paths, identity, listeners)
    finally:
        listeners.close()


def _wire(settings: Settings, paths: StatePaths, identity: Identity, listeners: Listeners) -> Supervisor:
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    clock = DeviceClock()
    slots = Slots(paths.slots, paths.pointers)
    outbox = Outbox(paths.outbox, uuid4().hex)
    workers = Workers(
        make_spec=partial(_make_spec, settings, slots, listeners),
        notify=inbox.put,
        backoff=Backoff(1.0, 60.0, random.random),
    )
    urls = BlobUrls(identity.controller_url, send=inbox.put)
    free = partial(_free_bytes, paths)
    installer = Installer(slots, paths.downloads, free, settings.disk_margin_bytes)
    updates = UpdateRunner(
        file=RecordFile(paths.record),
        slots=slots,
        workers=workers,
        jobs=DeviceJobs(installer, inbox, urls),
        clock=clock,
        post=inbox.put,
        outcome=lambda record: supervisor.store_outcome(record),
        changed=lambda: supervisor.report_soon(),
    )
    supervisor = Supervisor(
        settings=settings,
        paths=paths,
        identity=identity,
        facts=load_facts(paths.root, find_runtimes()),
        clock=clock,
        inbox=inbox,
        connection=_connection(identity, inbox),
        outbox=outbox,
        sender=Sender(outbox, jitter=lambda: 0.8 + 0.4 * random.random()),
        slots=slots,
        workers=workers,
        updates=updates,
        urls=urls,
        trust=TrustProcess(),
        reconnect=Backoff(1.0, 60.0, random.random),
        verify_again=Backoff(2.0, 300.0, random.random),
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


def _make_spec(settings: Settings, slots: Slots, listeners: Listeners, running: Running) -> WorkerSpec:
    source = None
    if settings.source:
        source = SourceSpec(path=settings.source, rate_hz=settings.source_rate_hz, loop=settings.source_loop)
    return WorkerSpec(
        slot=str(slots.path(running.manifest)),
        manifest=running.manifest,
        assignment=running.assignment,
        runtime=running.runtime,
        threads=settings.threads,
        listen_fds=listeners.fds,
        stats_interval_s=settings.stats_interval_s,
        linger_s=settings.linger_s,
        source=source,
    )
