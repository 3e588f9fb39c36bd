"""Who devices, servers and people are, and who is let in."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet_shared.names import DeviceId, Digest


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A device's certificate as it is remembered. ``serial``: hexadecimal."""

    serial: str
    device: DeviceId
    public_key_sha256: Digest
    issued_ms: int
    expires_ms: int
    revoked_ms: int | None = None


class CertificateAuthority(Protocol):
    """What devices get their identity from. Its authorities are one, or two while the older is replaced."""

    root_json: str

    @property
    def ca_pem(self) -> str:
        """All authorities that are believed, newest first."""

    def find_bundle(self, ca_sha256: Digest) -> str | None:
        """Return the authorities whose PEM has this digest: all that are believed, or one of them."""

    def sign_csr(
        self, csr_pem: str, device: DeviceId, *, bundle: str | None = None, at_ms: int | None = None
    ) -> str:
        """Return a client certificate (PEM) of the newest authority, of those in ``bundle`` where one is
        given; raise `Invalid` (``enrol.csr``) for a CSR of another device. ``at_ms``: now, if none."""

    def public_key_digest(self, csr_pem: str) -> Digest:
        """Return the sha256 of the CSR's public key (DER SubjectPublicKeyInfo)."""

    def describe(self, certificate_pem: str) -> IssuedCertificate:
        """Return what a certificate that was signed here says."""


class Authorities(Protocol):
    """The certificate authorities themselves, and how one is replaced."""

    @property
    def pems(self) -> tuple[str, ...]:
        """Each certificate that is believed, newest first."""

    @property
    def fingerprints(self) -> tuple[Digest, ...]:
        """The sha256 of each certificate (DER) that is believed, newest first."""

    def begin_rotation(self) -> None:
        """Make a newer authority beside the one that there is; raise `Conflict`."""

    def finish_rotation(self) -> None:
        """Believe the newer one alone."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one side of a TLS connection: whom it believes, and who it is. They are replaced on
    renewal and rotation; whoever has them open loads them again."""

    authorities: Path
    certificate: Path
    key: Path


class TlsFolder(Protocol):
    """The files by which brokers, API and controller prove who they are."""

    def renew(self, at_ms: int) -> None:
        """Bring authorities and certificates up to date, those whose end is near above all."""

    def write_revocations(self, revoked: Sequence[tuple[str, int]], at_ms: int) -> None:
        """Write the list of revoked serial numbers and times, if it is another one or grows old."""


class BrokerAccess(Protocol):
    """Which devices may use the broker, as the broker itself enforces it. Calls can be repeated."""

    def sync(self, devices: Iterable[tuple[DeviceId, Digest]]) -> None:
        """Let these devices in, each with the key (sha256 of its SubjectPublicKeyInfo), and nobody else.
        Raises `Unavailable` while the broker is away."""

    def admit(self, device: DeviceId, public_key_sha256: Digest) -> None:
        """Let one more in, or give it another key: what it had before is cut off."""

    def revoke(self, device: DeviceId) -> None:
        """Cut the live session of a device, and let it in no more."""


@dataclass(frozen=True, slots=True)
class RegisteredDevice:
    """What is known of a device outside of the database: its key, and its newest certificate."""

    device: DeviceId
    public_key_sha256: Digest
    serial: str
    expires_ms: int
    revoked_ms: int | None = None


class IdentityRegister(Protocol):
    """The authority's own register of whom it gave an identity, beside its keys. A database that is restored
    from a backup knows neither who enrolled since, nor who was revoked."""

    def put(self, entry: RegisteredDevice) -> None: ...

    def get(self, device: DeviceId) -> RegisteredDevice | None: ...

    def all(self) -> Sequence[RegisteredDevice]:
        """By device."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an issuer says somebody is. ``groups``: what its role claim lists."""

    name: str
    groups: AbstractSet[str]


class Issuer(Protocol):
    """An OpenID provider that signs bearer tokens."""

    def verify(self, token: str) -> Identity:
        """Return who holds ``token``; raise `Forbidden` (``api.unauthorized``) for one that is not its own,
        not for this controller or not valid now, `Unavailable` while its keys cannot be had."""
