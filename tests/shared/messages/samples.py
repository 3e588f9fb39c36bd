"""One message of each kind, as the golden files hold it."""

import msgspec

from fleet_shared.codec import Encoding
from fleet_shared.envelope import AssignmentKey, Authorities
from fleet_shared.manifest import (
    BlobRef,
    Contract,
    Fit,
    Golden,
    ImageRules,
    Layout,
    Manifest,
    Metrics,
    OpUse,
    Preprocessing,
    Quantization,
    Resize,
    Role,
    Tensor,
    compose_manifest,
)
from fleet_shared.messages.desired import Desired, EncodedBlob, OverBudget, Policy, RunEntry, WhenTight
from fleet_shared.messages.enrolment import BrokerAddress, EnrolReply, EnrolRequest
from fleet_shared.messages.fetch import Chunk, Fetch, Part
from fleet_shared.messages.presence import Presence
from fleet_shared.messages.reported import (
    Facts,
    Failure,
    Order,
    Progress,
    Reported,
    Running,
    RuntimeFact,
    TrustReport,
    UnavailableRuntime,
    WorkerReport,
    WorkerState,
)
from fleet_shared.messages.telemetry import (
    Ack,
    Clock,
    Event,
    Rejection,
    Sample,
    Source,
    TelemetryBatch,
    Tombstone,
    encode_row,
)
from fleet_shared.messages.update import UpdateState
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName, VariantName
from fleet_shared.wire import Document

DEVICE = DeviceId("pi-1")
DIGEST = Digest("ab" * 32)
ASSIGNMENT = AssignmentId("0123456789abcdef")
FAILURE = Failure(code="transfer.digest", message="other bytes", hint="look at the store")
RUNNING = Running(
    model=ModelName("digits"),
    version="1.4.0",
    variant=VariantName("int8"),
    manifest=DIGEST,
    assignment=ASSIGNMENT,
    runtime="litert",
)
ROWS = (
    Sample(seq=7, boot_id="b", boot_ms=10, wall_ms=1_790_000_000_000, clock=Clock.SYNCED,
           source=Source.HOST, values={"cpu_percent": 3.5}),
    Event(seq=8, boot_id="b", boot_ms=11, name="update.failed", assignment=ASSIGNMENT, failure=FAILURE,
          detail={"bytes_fetched": 12}),
    Tombstone(seq=9, last=20, boot_id="b", boot_ms=12),
)  # fmt: skip

MODEL_ROW = Sample(
    seq=7, boot_id="b", boot_ms=10, source=Source.MODEL, values={"accuracy": 0.5},
    classes={"cat": 3, "dog": 1}, model="digits", version="1.4.0", variant="int8", runtime="litert",
    window_ms=500,
)  # fmt: skip
MANIFEST = Manifest(
    model=ModelName("digits"),
    version="1.4.0",
    variant=VariantName("int8"),
    contract=Contract(
        inputs=(Tensor(name="x", dtype="int8", shape=(1, 8, 8, 1),
                       quantization=Quantization(scale=0.5, zero_point=-128)),),
        outputs=(Tensor(name="y", dtype="float32", shape=(-1, 10)),),
        ops=(OpUse(name="FULLY_CONNECTED", version=4, dtypes=("int8", "int8", ""), per_channel=True,
                   count=2),),
        runtimes={"tflite_runtime": ">=2.14", "litert": ""},
        memory_bytes=4096,
        golden=Golden(samples=16, tolerance=0.25),
        preprocessing=Preprocessing(colour="grey", scale=0.0625, offset=-1.0),
        metrics=Metrics(accuracy=0.98, validation_accuracy=0.97, latency_p50_us=12.5, test_samples=360),
    ),
    blobs={
        Role.MODEL: BlobRef(sha256=DIGEST, size_bytes=100),
        Role.GOLDEN: BlobRef(sha256=DIGEST, size_bytes=10),
        Role.LABELS: BlobRef(sha256=DIGEST, size_bytes=1),
    },
)  # fmt: skip

MANIFEST_2 = compose_manifest(
    model=MANIFEST.model,
    version="1.5.0",
    variant=MANIFEST.variant,
    contract=msgspec.structs.replace(
        MANIFEST.contract,
        inputs=(Tensor(name="x", dtype="float32", shape=(1, 3, 8, 8)),),
        preprocessing=Preprocessing(
            colour="bgr", scale=0.5, offset=-1.0,
            image=ImageRules(resize=Resize.BILINEAR, fit=Fit.LETTERBOX, pad=114, layout=Layout.NCHW,
                             mean=(0.25, 0.5, 0.75), std=(0.5,)),
        ),
    ),
    blobs=MANIFEST.blobs,
)  # fmt: skip
"""Of schema 2: an older reader would compute something else from it, and refuses it."""

SAMPLES: dict[str, Document] = {
    "manifest": MANIFEST,
    "manifest-2": MANIFEST_2,
    "presence": Presence(session="s", online=True),
    "reported-runtimes": Reported(
        session="s",
        facts=Facts(
            agent_version="0.2.0", hostname="pi", machine="aarch64", os="Debian", python="3.13.1",
            cpu_count=4, memory_bytes=1 << 30, disk_bytes=1 << 34,
            runtimes=(RuntimeFact(name="openvino", version="2026.4.1"),),
            runtimes_unavailable=(
                UnavailableRuntime(name="tflite_runtime", reason="no wheel for Python 3.13"),
            ),
        ),
        active=msgspec.structs.replace(RUNNING, runtime="openvino", threads=2),
    ),
    "reported": Reported(
        session="s",
        facts=Facts(
            agent_version="0.1.0", hostname="pi", machine="aarch64", os="Debian", python="3.11.2",
            cpu_count=4, memory_bytes=1 << 30, disk_bytes=1 << 34, hardware="Raspberry Pi 5",
            runtimes=(RuntimeFact(name="litert", version="2.3.0"),), encodings=("identity", "zstd"),
        ),
        accepted=Order(key_epoch=1, generation=2, serial=0),
        active=RUNNING,
        update=Progress(assignment=ASSIGNMENT, state=UpdateState.FAILED, bytes_done=1, bytes_total=2,
                        failure=FAILURE),
    ),
    "reported-worker": Reported(
        session="s",
        facts=Facts(
            agent_version="0.2.0", hostname="pi", machine="aarch64", os="Debian", python="3.11.2",
            cpu_count=4, memory_bytes=1 << 30, disk_bytes=1 << 34,
        ),
        active=RUNNING,
        worker=WorkerReport(state=WorkerState.GIVEN_UP, restarts=11, failure=FAILURE),
    ),
    "reported-trust": Reported(
        session="s",
        facts=Facts(
            agent_version="0.3.0", hostname="pi", machine="aarch64", os="Debian", python="3.11.2",
            cpu_count=4, memory_bytes=1 << 30, disk_bytes=1 << 34,
        ),
        trust=TrustReport(
            root_version=3, key_epoch=2, authorities=(DIGEST,), issuer=DIGEST,
            certificate_expires_ms=1_790_000_000_000, metadata_expires_ms=1_780_000_000_000,
        ),
    ),
    "desired": Desired(
        device=DEVICE, key_epoch=1, generation=2, serial=0, issued_ms=1, expires_ms=2, policy=Policy(),
        run=(RunEntry(
            model=ModelName("digits"), version="1.4.0", manifest=DIGEST, assignment=ASSIGNMENT,
            encodings=(EncodedBlob(blob=DIGEST, encoding=Encoding.ZSTD, sha256=DIGEST,
                                   encoded_bytes=5, size_bytes=9),)),),
        critical=("run",),
    ),
    "desired-policy": Desired(
        device=DEVICE, key_epoch=1, generation=3, serial=0, issued_ms=1, expires_ms=2,
        policy=Policy(
            soak_s=60.0, deadline_s=7200.0, soak_inferences=100, error_rate_max=0.05, latency_ratio_max=1.5,
            worker_restarts_max=1, memory_bytes_max=1 << 28, bytes_max=1 << 24, over_bytes=OverBudget.WAIT,
            when_tight=WhenTight.GAP, benchmark=True,
        ),
        run=(RunEntry(
            model=ModelName("digits"), version="1.5.0", manifest=DIGEST, assignment=ASSIGNMENT,
        ),),
    ),
    "telemetry": TelemetryBatch(
        stream="st", start=1, oldest=7, head=20, first=7, last=20,
        rows=tuple(msgspec.Raw(encode_row(row)) for row in ROWS),
    ),
    "telemetry-2": TelemetryBatch(
        stream="st", start=1, oldest=7, head=20, first=7, last=20, outbox="ob",
        rows=tuple(msgspec.Raw(encode_row(row)) for row in ROWS),
    ),
    "telemetry-model": TelemetryBatch(
        stream="st", start=1, oldest=7, head=20, first=7, last=7, rows=(msgspec.Raw(encode_row(MODEL_ROW)),),
    ),
    "ack": Ack(stream="st", upto=20, rejected=(Rejection(seq=8, code="telemetry.row.invalid"),)),
    "fetch": Fetch(request="r", assignment=ASSIGNMENT, sha256=DIGEST),
    "fetch-part": Fetch(
        request="r", assignment=ASSIGNMENT, sha256=DIGEST, part=Part(offset=98304, length=98304)
    ),
    "fetch-file": Fetch(request="r", file="metadata/timestamp.json", part=Part(offset=0, length=98304)),
    "fetch-certificate": Fetch(request="r", csr_pem="pem"),
    "chunk-part": Chunk(request="r", sha256=DIGEST, offset=98304, total_bytes=3_000_000),
    "chunk": Chunk(request="r", sha256=DIGEST, url="/api/v1/blobs/x", life_s=300),
    "chunk-2": Chunk(
        request="r", sha256=DIGEST, failure=Failure(code="storage.unreachable", message="m"), retry=True
    ),
    "chunk-failure": Chunk(request="r", sha256=DIGEST, failure=FAILURE),
    "enrol-request": EnrolRequest(secret="secret", device=DEVICE, csr_pem="pem"),
    "enrol-reply": EnrolReply(
        device=DEVICE, certificate_pem="c", ca_pem="ca", root_json="{}", metadata_path="/m",
        targets_path="/t", topic_root="fleet/v1", broker=BrokerAddress(port=1883, host="h"),
    ),
    "authorities": Authorities(pem=("newer", "older")),
    "assignment-key": AssignmentKey(key_epoch=1, keyid="k", public_pem="pem"),
}  # fmt: skip
