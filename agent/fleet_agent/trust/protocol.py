"""What the supervisor asks of the trust child, and what it answers.

The child is ``python -m fleet_agent.trust``: one JSON request on standard input, one JSON answer
on standard output, exit code 0 whenever it answered. It holds no state but its files. This
module is all that the supervisor side may import of this package.
"""

import msgspec

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


class VerifyDesired(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Refresh the release metadata, verify the envelope for this device, fetch and verify the
    manifests that it names."""

    trust_dir: str
    device: DeviceId
    metadata_url: str
    targets_url: str
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


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Nothing was changed. ``retry`` tells a passing trouble (network) from a verdict."""

    code: str
    message: str
    hint: str = ""
    retry: bool = False


TrustRequest = MakeKey | AcceptEnrolment | ReadCertificate | VerifyDesired
TrustAnswer = KeyMade | EnrolmentAccepted | CertificateRead | DesiredVerified | Refused
