"""What the HTTP API answers, typed. Shared by the server, which fills them, and the client."""

from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec

from fleet_shared.limits import LABELS_PER_DEVICE
from fleet_shared.manifest import Contract
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Failure, Reported

T = TypeVar("T")

TOKEN_LIFE_MAX_S: Final = 366 * 24 * 3600
TOKEN_USES_MAX: Final = 10_000
API_TOKEN_LIFE_MAX_S: Final = 10 * 366 * 24 * 3600


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    status: str
    broker: str
    version: str


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    labels: dict[str, str]
    online: bool
    enrolled_ms: int
    last_seen_ms: int | None
    reported: Reported | None
    revoked_ms: int | None = None


class MeasurementView(msgspec.Struct, frozen=True, kw_only=True):
    """What a device of this kind (``hardware``) measured of a variant. ``model`` to ``variant`` are none
    for one that is no longer known."""

    hardware: str
    runtime: str
    runtime_version: str
    threads: int
    manifest: str
    passed: bool
    latency_p50_us: float | None
    device: str
    measured_ms: int
    model: str | None = None
    version: str | None = None
    variant: str | None = None


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """``next`` is what to continue ``after``, none at the end."""

    items: list[T]
    next: str | None


class VariantView(msgspec.Struct, frozen=True, kw_only=True):
    """``blobs``: digests by role; ``size_bytes``: all of them; ``model_bytes``: the model file."""

    name: str
    manifest: str
    size_bytes: int
    accuracy: float | None
    contract: Contract
    blobs: dict[str, str]
    model_bytes: int | None = None


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    """``created`` is false where the same content was registered before; ``released`` while the release keys
    have not signed it. ``artifacts``: the names of what is kept with it for people."""

    model: str
    version: str
    created: bool
    variants: list[VariantView]
    lineage: dict[str, Any] = {}
    released: bool = True
    artifacts: list[str] = []


class ArtifactView(msgspec.Struct, frozen=True, kw_only=True):
    """``role``: who may read it."""

    name: str
    size_bytes: int
    role: str


class BuildJobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``bundle``: the digest of an uploaded blob: the recipe and the files that it names, in one archive."""

    model: str
    bundle: str
    version: str | None = None


class BuildClaimRequest(msgspec.Struct, frozen=True, kw_only=True):
    worker: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.:-]{1,64}\Z")]


class BuildReportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``events``: JSON documents; ``version`` or ``failure``: how the build ended."""

    attempt: int
    events: list[str] = []
    version: str | None = None
    failure: Failure | None = None


class BuildJobView(msgspec.Struct, frozen=True, kw_only=True):
    """Its bundle is not told: with the digest, every viewer could get the data."""

    id: str
    model: str
    state: str
    version: str | None
    attempt: int
    worker: str | None
    created_ms: int
    created_by: str
    failure: Failure | None

    @property
    def is_open(self) -> bool:
        return self.state in ("queued", "running")


class BuildClaimView(msgspec.Struct, frozen=True, kw_only=True):
    """``bundle``: the blob with the recipe and its files, for the worker that has the job. ``lease_ms``: who
    has not reported for so long has lost the job."""

    job: BuildJobView | None
    bundle: str | None
    lease_ms: int


class BuildEventView(msgspec.Struct, frozen=True, kw_only=True):
    seq: int
    event: str


class AssignmentView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    device: str
    state: str
    variant: str | None
    bytes_done: int
    bytes_total: int
    created_ms: int
    updated_ms: int
    failure: Failure | None
    is_open: bool = False


class RolloutView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    model: str
    version: str
    selector: str
    state: str
    created_ms: int
    devices: list[str]
    assignments: list[AssignmentView]


class ChangeView(msgspec.Struct, frozen=True, kw_only=True):
    at_ms: int
    state: str
    failure: Failure | None


class PointView(msgspec.Struct, frozen=True, kw_only=True):
    at_ms: int
    value: float


class SeriesView(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    metric: str
    points: list[PointView]


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    received_ms: int
    device: str
    name: str
    assignment: str | None
    failure: Failure | None
    detail: dict[str, Any]
    wall_ms: int | None = None
    """When it happened by the device's clock, corrected where the device learned the time later."""


class TotalsView(msgspec.Struct, frozen=True, kw_only=True):
    samples: int
    events: int
    lost: int
    duplicates: int
    thinned: int
    rejected: int
    pending: int


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    devices_online: int
    devices_offline: int
    models: int
    versions: int
    rollouts_running: int
    assignments: dict[str, int]
    telemetry: TotalsView


class TokenView(msgspec.Struct, frozen=True, kw_only=True):
    token: str


class EnrolmentTokenView(msgspec.Struct, frozen=True, kw_only=True):
    """``state``: open, used, expired or revoked. ``device``: the only one that it is for."""

    id: str
    state: str
    labels: dict[str, str]
    device: str | None
    created_ms: int
    expires_ms: int
    uses_max: int
    used_by: list[str]


class RevokedView(msgspec.Struct, frozen=True, kw_only=True):
    """``enforced``: the broker lets in only whom it is told to. ``cut``: it has heard of this already."""

    device: DeviceView
    cut: bool
    enforced: bool


class StrangerView(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    public_key_sha256: str


class AuthoritiesView(msgspec.Struct, frozen=True, kw_only=True):
    """``fingerprints``: sha256 of each authority's certificate, newest first. Of ``devices``, ``believing``
    know the newest and ``holding`` have a certificate of it; ``behind`` are some that do not do both."""

    fingerprints: list[str]
    running: bool
    devices: int
    believing: int
    holding: int
    behind: list[str]
    behind_total: int


class WhoView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    role: str
    origin: str


class ApiTokenView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    role: str
    created_ms: int
    expires_ms: int | None
    revoked_ms: int | None
    used_ms: int | None


class NewApiTokenView(msgspec.Struct, frozen=True, kw_only=True):
    secret: str
    token: ApiTokenView


class AuditEntryView(msgspec.Struct, frozen=True, kw_only=True):
    """``before`` and ``after`` are JSON, as text: the hash is over these very characters."""

    seq: int
    at_ms: int
    actor: str
    origin: str
    action: str
    subject: str
    before: str | None
    after: str | None
    hash: str


class PolicyRequest(Policy, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The policy as a person asks for it: a name with a typing error is refused, not ignored."""

    @classmethod
    def of(cls, policy: Policy) -> "PolicyRequest":
        return cls(**msgspec.structs.asdict(policy))

    def as_policy(self) -> Policy:
        return Policy(**msgspec.structs.asdict(self))


class RolloutRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``model``: ``digits`` or ``digits:1.4.0``."""

    model: str
    selector: str
    variant: str | None = None
    policy: PolicyRequest = PolicyRequest()


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``device``: a known one, which is to get a new key; none for ``uses`` new devices with ``labels``."""

    labels: dict[str, str] = {}
    life_s: Annotated[int, msgspec.Meta(ge=1, le=TOKEN_LIFE_MAX_S)] = 86_400
    uses: Annotated[int, msgspec.Meta(ge=1, le=TOKEN_USES_MAX)] = 1
    device: str | None = None


class AuthorityRotationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Begins the replacement of the authority, or ends it: by ``force`` also where devices are cut off."""

    finish: bool = False
    force: bool = False


class RoleView(msgspec.Struct, frozen=True, kw_only=True):
    """A role of the release metadata: any ``threshold`` of ``keyids`` sign it, the controller has those that
    are ``at_hand``."""

    role: str
    keyids: list[str]
    threshold: int
    at_hand: list[str]
    version: int
    expires_ms: int


class WaitingView(msgspec.Struct, frozen=True, kw_only=True):
    """A document that needs ``missing`` more signatures, by any of ``keyids``."""

    role: str
    version: int
    missing: int
    keyids: list[str]


class TrustView(msgspec.Struct, frozen=True, kw_only=True):
    """``devices_by_root``, ``devices_by_epoch``: how many devices believe which root version and which epoch
    of the assignment key, as they last said; ``devices_silent`` have never said."""

    root_version: int
    key_epoch: int
    assignment_keyid: str
    roles: list[RoleView]
    waiting: list[WaitingView]
    devices_by_root: dict[str, int]
    devices_by_epoch: dict[str, int]
    devices_silent: int


class RotationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``keys``: the public halves, as `fleet trust key` writes them; none lets the controller make one."""

    role: str
    keys: Annotated[list[str], msgspec.Meta(max_length=20)] = []
    threshold: Annotated[int, msgspec.Meta(ge=1, le=20)] | None = None


class RevocationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keyid: str


class ApiTokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``life_s`` none: until it is revoked."""

    name: Annotated[str, msgspec.Meta(max_length=64)]
    role: Literal["viewer", "operator", "admin"]
    life_s: Annotated[int, msgspec.Meta(ge=1, le=API_TOKEN_LIFE_MAX_S)] | None = None


class LabelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    set: Annotated[dict[str, str], msgspec.Meta(max_length=LABELS_PER_DEVICE)] = {}
    remove: Annotated[list[str], msgspec.Meta(max_length=LABELS_PER_DEVICE)] = []


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457, with the stable code and the hint of the error."""

    type: str = "about:blank"
    title: str = ""
    status: int = 500
    detail: str = ""
    code: str = "controller.failed"
    hint: str = ""
