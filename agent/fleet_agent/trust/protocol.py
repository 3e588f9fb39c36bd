"""What the supervisor asks of the trust child, and what it answers.

The child is ``python -m fleet_agent.trust``. It reads a request on standard input and writes its answer on
standard output, exit code 0 whenever it answered. Before, it may ask back for files of the release
repository, where it has no way to them itself: `NeedFile`, answered by `GivenFile` or `FileFailed`. Each
message is JSON behind its length (4 bytes, big-endian). The child holds no state but its files. This module
and `framing` are all that the supervisor side may import of this package.
"""

import msgspec

from fleet_agent.trust_report import TrustNote
from fleet_shared.limits import RELEASES_BYTES
from fleet_shared.names import DeviceId, Digest


class MakeKey(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Make the device's key if there is none (identity/key.pem, mode 0600) and a CSR for it."""

    identity_dir: str
    device: DeviceId


class KeyMade(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    csr_pem: str
    public_key_sha256: Digest


class AcceptEnrolment(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Check the controller's answer against the token's digests and the device's own key, then
    store certificate, CA and TUF root."""

    identity_dir: str
    trust_dir: str
    device: DeviceId
    ca_sha256: Digest
    root_sha256: Digest
    certificate_pem: str
    ca_pem: str
    root_json: str


class EnrolmentAccepted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    certificate_expires_ms: int


class ReadCertificate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Read the device's certificate, and check that it is for the device's own key. Changes nothing."""

    identity_dir: str


class CertificateRead(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    device: str
    not_before_ms: int
    not_after_ms: int


class StoreCertificate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Check a renewed certificate: of a known authority, for this device and its key, and later to end than
    the one it replaces, unless that is of an authority on its way out. Then store it."""

    identity_dir: str
    trust_dir: str
    device: DeviceId
    certificate_pem: str
    wall_ms: int | None


class CertificateStored(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    trust: TrustNote


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """Where the releases are. ``http``: the child may go there itself. ``news``: the newest timestamp that
    somebody told of, unverified; empty without one."""

    metadata_url: str
    targets_url: str
    http: bool = True
    news: bytes = b""

    def __post_init__(self) -> None:
        if len(self.news) > RELEASES_BYTES:
            raise ValueError("news of releases that are too long")


class Refresh(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Bring the release metadata up to date, and with it the authorities and the assignment key."""

    identity_dir: str
    trust_dir: str
    repository: Repository
    wall_ms: int | None


class Refreshed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    trust: TrustNote


class VerifyDesired(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Refresh, then verify the envelope for this device, fetch and verify the manifests that it names."""

    identity_dir: str
    trust_dir: str
    device: DeviceId
    repository: Repository
    envelope: bytes
    wall_ms: int | None
    """The wall clock, or none while it is not synchronised (then the floor is used)."""


class DesiredVerified(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``desired`` holds exactly the verified bytes; ``manifests`` the verified bytes by digest.
    ``now_ms`` is the time by which expiry was judged."""

    desired: bytes
    manifests: dict[Digest, bytes]
    expired: bool
    now_ms: int
    trust: TrustNote | None = None


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Nothing was changed. ``retry`` tells a passing trouble (network) from a verdict."""

    code: str
    message: str
    hint: str = ""
    retry: bool = False


class NeedFile(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``path``: below the repository, ``metadata/timestamp.json`` or ``targets/...``."""

    path: str
    length_max: int


class GivenFile(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Not verified."""

    content: bytes


class FileFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``retry``: it may be there later; else there is no such file."""

    message: str
    retry: bool


TrustRequest = MakeKey | AcceptEnrolment | ReadCertificate | StoreCertificate | Refresh | VerifyDesired
TrustAnswer = (
    KeyMade | EnrolmentAccepted | CertificateRead | CertificateStored | Refreshed | DesiredVerified | Refused
)
FromChild = TrustAnswer | NeedFile
FileAnswer = GivenFile | FileFailed
