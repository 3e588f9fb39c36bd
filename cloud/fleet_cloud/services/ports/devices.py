"""Devices, what they enrol with, and what they were issued."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fleet_cloud.domain.device import Device
from fleet_cloud.services.ports.identity import IssuedCertificate
from fleet_shared.names import DeviceId, Digest


class Devices(Protocol):
    def get(self, device: DeviceId) -> Device | None: ...

    def lock(self, device: DeviceId) -> Device | None:
        """Return a device that is to be changed: others wait until the end of the transaction."""

    def add(self, device: Device) -> None:
        """Insert a device; raise `Conflict` when there is one with this id."""

    def put(self, device: Device) -> None: ...

    def many(self, devices: Sequence[DeviceId]) -> Sequence[Device]:
        """Those of ``devices`` that there are."""

    def seen(self, device: DeviceId, now_ms: int) -> None:
        """Remember that a device was heard from; one that has a session is there."""

    def give_up_silent(self, heard_before_ms: int) -> int:
        """Count as offline what is online and was heard from last before then (or never); return how
        many. They keep their session: who speaks again is there again."""

    def count(self) -> tuple[int, int]:
        """How many are online, and how many there are."""

    def page(self, after: DeviceId | None, limit: int) -> Sequence[Device]:
        """Devices by id, after the given one."""


@dataclass(frozen=True, slots=True)
class EnrolmentGrant:
    """A token as it is kept: hashed. ``device``: the only one that it is for, which gets a new key with it;
    none: for so many new devices as ``uses_max`` says. ``ca_sha256``: the authorities that it names."""

    secret_sha256: Digest
    created_ms: int
    expires_ms: int
    labels: Mapping[str, str]
    uses_max: int = 1
    device: DeviceId | None = None
    revoked_ms: int | None = None
    ca_sha256: Digest | None = None

    @property
    def id(self) -> str:
        """By which people speak of it; it tells nothing of the secret."""
        return self.secret_sha256[:12]


@dataclass(frozen=True, slots=True)
class EnrolmentUse:
    """One device that enrolled with a token; the same key again is the same use."""

    secret_sha256: Digest
    public_key_sha256: Digest
    device: DeviceId
    used_ms: int


class Enrolments(Protocol):
    def get(self, secret_sha256: Digest) -> EnrolmentGrant | None: ...

    def lock(self, secret_sha256: Digest) -> EnrolmentGrant | None:
        """Return a token that is used or changed: others wait until the end of the transaction."""

    def all(self) -> Sequence[EnrolmentGrant]:
        """Oldest first."""

    def put(self, grant: EnrolmentGrant) -> None: ...

    def uses(self, secret_sha256: Digest | None) -> Sequence[EnrolmentUse]:
        """Of one token, or of all, oldest first."""

    def add_use(self, use: EnrolmentUse) -> None: ...


class Certificates(Protocol):
    """Those that were issued to devices, until some time after their end."""

    def add(self, certificate: IssuedCertificate) -> None: ...

    def has(self, serial: str) -> bool: ...

    def count_since(self, device: DeviceId, since_ms: int) -> int:
        """How many a device was issued since."""

    def last_ends(self) -> Mapping[DeviceId, int]:
        """When the last certificate of each device ends, in ms."""

    def revoke(self, device: DeviceId, at_ms: int, *, but: Digest | None = None) -> None:
        """Revoke all of a device, except those of the key ``but``."""

    def restore(self, device: DeviceId, key: Digest) -> None:
        """Let those of this key be good again."""

    def revoked(self, now_ms: int) -> Sequence[tuple[str, int]]:
        """Serial numbers, and when each was revoked, of those that have not ended yet."""

    def remove_ended(self, before_ms: int) -> int:
        """Forget those that ended before; return how many."""
