"""What surrounds the supervisor of a device, stood in for: the broker, the trust child, worker processes,
the network, time, and a disk that refuses or a power cut."""

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fleet_agent.blackbox import Doing, Vital
from fleet_agent.errors import OutboxError, TransferError
from fleet_agent.link.backoff import Backoff
from fleet_agent.link.outbox import Outbox
from fleet_agent.slots import Pointers, Slots
from fleet_agent.telemetry.clock import Stamp
from fleet_agent.transfer.answer import HttpSource
from fleet_agent.transfer.download import Downloader
from fleet_agent.trust.protocol import (
    DesiredVerified,
    Refresh,
    Refreshed,
    Refused,
    TrustAnswer,
    TrustRequest,
    VerifyDesired,
)
from fleet_agent.trust_report import TrustNote
from fleet_agent.update.install import Installer
from fleet_agent.update.record import Evidence, RecordFile, UpdateRecord
from fleet_agent.watch import Verdict
from fleet_agent.worker.protocol import FromWorker, Ready, SelfTest, Serving, Stats, WorkerSpec
from fleet_agent.worker_end import explain_end
from fleet_agent.worker_process import Notify, WorkerExited, WorkerSaid
from fleet_shared.manifest import (
    BlobRef,
    Contract,
    Golden,
    Manifest,
    Metrics,
    Role,
    Tensor,
    encode_manifest,
)
from fleet_shared.messages.desired import Desired, Policy, RunEntry
from fleet_shared.messages.reported import Facts, Reported, RuntimeFact
from fleet_shared.messages.telemetry import AnyRow, Clock, TelemetryBatch
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName, VariantName, digest_of
from fleet_shared.topics import Channel
from fleet_shared.wire import decode

SOAK_S = 4.0
DEADLINE_S = 3600.0
GOLDEN = b"golden vectors"
FACTS = Facts(
    agent_version="0.1.0", hostname="pi", machine="aarch64", os="Debian", python="3.11",
    cpu_count=4, memory_bytes=1000, disk_bytes=1000, runtimes=(RuntimeFact(name="litert", version="2.3.0"),),
)  # fmt: skip


_TENSOR = Tensor(name="x", dtype="int8", shape=(1, 2))
CONTRACT = Contract(
    inputs=(_TENSOR,), outputs=(_TENSOR,), ops=(), memory_bytes=1,
    runtimes={"litert": ">=1.0", "tflite_runtime": ">=2.14"},
    golden=Golden(samples=1, tolerance=0.1),
    metrics=Metrics(accuracy=0.9, validation_accuracy=0.9),
)  # fmt: skip


def model_bytes(version: str) -> bytes:
    return f"model {version} ".encode() * 1000


def make_manifest(version: str) -> bytes:
    contents = {Role.MODEL: model_bytes(version), Role.GOLDEN: GOLDEN}
    blobs = {role: BlobRef(sha256=digest_of(raw), size_bytes=len(raw)) for role, raw in contents.items()}
    return encode_manifest(
        Manifest(
            model=ModelName("m"), version=version, variant=VariantName("int8"), contract=CONTRACT, blobs=blobs
        )
    )  # fmt: skip


def make_desired(
    version: str, assignment: str, generation: int, soak_s: float = SOAK_S, **policy: Any
) -> Desired:
    entry = RunEntry(
        model=ModelName("m"),
        version=version,
        manifest=digest_of(make_manifest(version)),
        assignment=AssignmentId(assignment),
    )
    return Desired(
        device=DeviceId("pi-1"), key_epoch=1, generation=generation, serial=0, issued_ms=0, expires_ms=1,
        policy=Policy(**{"soak_s": soak_s, "deadline_s": DEADLINE_S, **policy}), run=(entry,),
    )  # fmt: skip


def make_stats(requests: int = 10, errors: int = 0, p50_us: float = 1.0) -> Stats:
    return Stats(
        window_ms=1000, requests=requests, errors=errors, latency_p50_us=p50_us, latency_p90_us=p50_us,
        latency_p99_us=p50_us, labelled=0, correct=0, classes={}, rss_bytes=1,
    )  # fmt: skip


@dataclass
class FakeClock:
    boot_id: str = "boot-1"
    seconds: float = 1000.0
    wall_ms: int | None = None

    def boot_s(self) -> float:
        return self.seconds

    def now(self) -> Stamp:
        state = Clock.UNSYNCED if self.wall_ms is None else Clock.SYNCED
        return Stamp(self.boot_id, int(self.seconds * 1000), self.wall_ms, state)


@dataclass
class FakeLink:
    session: str = "session-1"
    reports: list[Reported] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    connects: int = 0

    def connect(self) -> None:
        self.connects += 1

    def publish(self, channel: Channel, payload: bytes, *, retain: bool = False) -> bool:  # noqa: ARG002
        self.sent.append(payload)
        if channel is Channel.REPORTED:
            self.reports.append(decode(Reported, payload))
        return True

    def give_up(self) -> bool:
        return True

    def close(self) -> None: ...


@dataclass
class FakeTrust:
    """An envelope is the bare desired document here. ``hold``: answers wait for `answer`."""

    hold: bool = False
    unreachable: bool = False
    expired: bool = False
    asked: list[bytes] = field(default_factory=list)
    refreshed: list[bytes] = field(default_factory=list)
    """The news of each refresh."""
    refresh_answer: TrustAnswer = field(default_factory=lambda: Refreshed(trust=TrustNote()))
    _open: list[tuple[bytes, Callable[[TrustAnswer], None]]] = field(default_factory=list)

    def start(self, request: TrustRequest, answered: Callable[[TrustAnswer], None]) -> None:
        if isinstance(request, Refresh):
            self.refreshed.append(request.repository.news)
            answered(self.refresh_answer)
            return
        assert isinstance(request, VerifyDesired)
        assert not self._open, "two children at a time"
        self.asked.append(request.envelope)
        self._open.append((request.envelope, answered))
        if not self.hold:
            self.answer()

    def answer(self) -> None:
        envelope, answered = self._open.pop()
        answered(self._judge(envelope))

    def abort(self) -> None: ...

    def _judge(self, envelope: bytes) -> TrustAnswer:
        if self.unreachable:
            return Refused(code="trust.unreachable", message="no way to the metadata", retry=True)
        try:
            desired = msgspec.json.decode(envelope, type=Desired)
        except msgspec.MsgspecError:
            return Refused(code="trust.desired.signature", message="not signed")
        manifests = {entry.manifest: make_manifest(entry.version) for entry in desired.run}
        return DesiredVerified(desired=envelope, manifests=manifests, expired=self.expired, now_ms=0)


@dataclass(eq=False)
class FakeWorker:
    """``done``: what the supervisor told it. `say` and `exit` are what the process would do."""

    spec: WorkerSpec
    notify: Notify
    pid: int = 1
    done: list[str] = field(default_factory=list)
    killed: str = ""
    doing: Doing = Doing.LOADING
    started: int = 0
    ended: int = 0
    beats: int = 0
    rss_bytes: int = 1
    on_drain: "Callable[[FakeWorker], None]" = lambda _worker: None

    def serve(self) -> None:
        self.done.append("serve")

    def drain(self, linger_s: float | None = None) -> None:  # noqa: ARG002
        self.done.append("drain")
        self.on_drain(self)

    def stop(self) -> None:
        self.done.append("stop")

    def kill(self, verdict: Verdict) -> None:
        self.killed = verdict.why
        self.exit(-9, verdict)

    def look(self) -> Vital:
        return Vital(self.doing, self.started, self.ended, self.beats, self.rss_bytes)

    def wait(self, timeout_s: float) -> bool:  # noqa: ARG002
        return True

    def say(self, message: FromWorker) -> None:
        """Whoever speaks has a thread that runs."""
        self.beats += 1
        self.notify(WorkerSaid(self, message))

    def ready(self) -> None:
        self.doing = Doing.READY
        test = SelfTest(samples=1, max_difference=0.0, tolerance=0.1, class_flips=0)
        self.say(Ready(runtime="litert", runtime_version="1", load_ms=1.0, warmup_us=1.0, self_test=test))

    def serving(self) -> None:
        self.doing = Doing.SERVING
        self.say(Serving())

    def live(self) -> None:
        """Do what a healthy process does by itself."""
        if not self.done:
            self.ready()
        elif self.done == ["serve"]:
            self.serving()
            self.say(make_stats())

    def exit(self, code: int = 1, verdict: Verdict | None = None) -> None:
        self.notify(WorkerExited(self, explain_end(code, self.look(), verdict)))


@dataclass
class Gate:
    """Where a thread of the agent stands still until ``go`` is set or, ``dead``, its process was killed."""

    go: threading.Event
    dead: threading.Event
    waits: bool = False

    @property
    def stands_still(self) -> bool:
        return self.waits and not self.go.is_set() and not self.dead.is_set()

    def enter(self) -> None:
        self.waits = True
        try:
            while not self.go.wait(0.01):
                if self.dead.is_set():
                    raise TransferError("the process was killed")
        finally:
            self.waits = False


@dataclass
class FakeJobs:
    """Downloads come from nowhere, once ``go`` is set, and do not hear that they are given up, as one that
    waits for the network; with ``url_of`` they are real ones. Verification is the real one, with ``measured``
    as what a benchmark found. ``dead``: the process was killed."""

    installer: Installer
    go: threading.Event
    url_of: Callable[[Digest], str] | None = None
    dead: threading.Event = field(default_factory=threading.Event)
    fetched: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0
    measured: Evidence = field(default_factory=dict)
    refuse_download: list[Exception] = field(default_factory=list)
    refuse_verify: list[Exception] = field(default_factory=list)
    gate: Gate = field(init=False)

    def __post_init__(self) -> None:
        self.gate = Gate(self.go, self.dead)

    def download(self, record: UpdateRecord, aborted: threading.Event) -> Evidence:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            self.gate.enter()
            if self.url_of is not None:
                return self._fetch(record, self.url_of, aborted)
            if self.refuse_download:
                raise self.refuse_download.pop()
            if not aborted.is_set() and not self.installer.is_installed(record.entry, record.manifest):
                self.fetched.append(record.entry.version)
                self.installer.downloads.mkdir(exist_ok=True)
                for raw in (model_bytes(record.entry.version), GOLDEN):
                    (self.installer.downloads / digest_of(raw)).write_bytes(raw)
            return {"bytes_fetched": 1}
        finally:
            self.running -= 1

    def _fetch(
        self, record: UpdateRecord, url_of: Callable[[Digest], str], aborted: threading.Event
    ) -> Evidence:
        if self.installer.is_installed(record.entry, record.manifest):
            return {}
        backoff = Backoff(0.0, 0.0, lambda: 0.0)
        source = HttpSource(url_of)
        downloader = Downloader(self.installer.downloads, source, lambda _count: None, aborted, backoff)
        return self.installer.download(record.entry, record.manifest, downloader)

    def verify(self, record: UpdateRecord, aborted: threading.Event) -> Evidence:
        if self.refuse_verify:
            raise self.refuse_verify.pop()
        return {**self.installer.verify(record.entry, record.manifest, aborted), **self.measured}


class Killed(BaseException):
    """A power cut."""


@dataclass
class Faults:
    """What the device refuses at the moment. ``cut_at``: the power is cut right before (or after) so many
    more things were written down; ``full_at``: the disk is full from there on."""

    outcomes: bool = False
    records: bool = False
    pointers: bool = False
    processes: bool = False
    rows: bool = False
    cut_at: int | None = None
    cut_after: bool = False
    full_at: int | None = None

    @contextmanager
    def writing(self, *, refused: bool) -> Iterator[None]:
        cut = self.cut_at == 0
        if self.cut_at is not None:
            self.cut_at = None if cut else self.cut_at - 1
        if cut and not self.cut_after:
            raise Killed
        if self.full_at is not None:
            self.full_at = max(0, self.full_at - 1)
        if refused or self.full_at == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        yield
        if cut:
            raise Killed


class FailingOutbox(Outbox):
    faults = Faults()

    def append_once(self, key: str, row: AnyRow) -> bool:
        try:
            with self.faults.writing(refused=self.faults.outcomes):
                return super().append_once(key, row)
        except OSError as exc:
            raise OutboxError("the disk is full", code="outbox.full") from exc

    def load_batch(self, stream: str, after: int = 0) -> TelemetryBatch | None:
        if self.faults.rows:
            raise OutboxError("the disk cannot be read")
        return super().load_batch(stream, after)


class FailingRecordFile(RecordFile):
    faults = Faults()

    def save(self, record: UpdateRecord) -> None:
        with self.faults.writing(refused=self.faults.records):
            super().save(record)


class FailingSlots(Slots):
    """``gate``: whoever reads a model through stands still there."""

    faults = Faults()
    gate: Gate | None = None

    def is_intact(self, manifest: Digest) -> bool:
        if self.gate is not None:
            self.gate.enter()
        return super().is_intact(manifest)

    def save_pointers(self, pointers: Pointers) -> None:
        with self.faults.writing(refused=self.faults.pointers):
            super().save_pointers(pointers)
