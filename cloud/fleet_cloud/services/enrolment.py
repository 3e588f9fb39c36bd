"""Devices that get an identity: at first with a token, later by the key that they have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from fleet_cloud.domain.device import Device
from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.errors import Conflict, Forbidden
from fleet_cloud.services.admission import Admission
from fleet_cloud.services.attempts import Attempts
from fleet_cloud.services.audit import note
from fleet_cloud.services.devices import check_not_revoked, revoked
from fleet_cloud.services.grants import check_grant, hash_secret, make_grant, unknown_token
from fleet_cloud.services.ports import (
    CertificateAuthority,
    Clock,
    EnrolmentGrant,
    EnrolmentUse,
    IdentityRegister,
    RegisteredDevice,
    Transaction,
    UnitOfWork,
)
from fleet_shared.messages.enrolment import BrokerAddress, EnrolReply, EnrolRequest
from fleet_shared.names import DeviceId, Digest, digest_of, parse_device_id
from fleet_shared.token import EnrolmentToken

RENEWALS_PER_DAY: Final = 50
"""A device renews once in months; one that loses the answers asks again, and one that asks for ever must not
fill the database."""
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Site:
    """What a device must know of this controller."""

    topic_root: str
    metadata_path: str
    targets_path: str
    broker: BrokerAddress


@dataclass(frozen=True, slots=True)
class Enrolling:
    """``register`` and ``admission`` are none where there is nothing to tell them. ``write_revocations``
    writes the list anew when a device has another key: some brokers know the old one by that alone.
    ``announced``: the authorities that devices can know of, newest first."""

    uow: UnitOfWork
    ca: CertificateAuthority
    clock: Clock
    site: Site
    register: IdentityRegister | None = None
    admission: Admission | None = None
    write_revocations: Callable[[], None] = lambda: None
    announced: Callable[[], Sequence[str]] = lambda: ()
    attempts: Attempts = field(default_factory=Attempts)

    def create_token(
        self,
        labels: Mapping[str, str],
        life_s: int,
        by: Actor,
        *,
        uses: int = 1,
        device: str | None = None,
    ) -> EnrolmentToken:
        """Return a token for ``uses`` new devices, which get ``labels``, or for one ``device`` that is to
        get a new key. Only its hash is kept."""
        secret, grant = make_grant(labels, self.clock.now_ms(), life_s, uses, device)
        ca_pem = self.ca.ca_pem
        grant = replace(grant, ca_sha256=digest_of(ca_pem.encode()))
        with self.uow.begin() as transaction:
            transaction.enrolments.put(grant)
            after = {"labels": dict(grant.labels), "expires_ms": grant.expires_ms, "uses": uses}
            if grant.device is not None:
                after["device"] = grant.device
            note(transaction, by, grant.created_ms, "enrolment.token.create", grant.id, after=after)
        root = digest_of(self.ca.root_json.encode())
        return EnrolmentToken(secret=secret, ca_sha256=digest_of(ca_pem.encode()), root_sha256=root)

    def enrol(self, request: EnrolRequest, origin: str = "enrolment") -> EnrolReply:
        """Give a device its identity. The same token and key again get the same right again, so
        that a lost answer burns nothing. ``origin``: the address that the request came from."""
        device = parse_device_id(request.device)
        self._check_secret(request.secret, origin)
        key = self.ca.public_key_digest(request.csr_pem)
        try:
            with self.uow.begin() as transaction:
                grant, first = self._take(transaction, request.secret, device, key)
                bundle = self._find_bundle(grant)
                self._check_register(grant, device, key)
                if first:
                    self._admit(transaction, grant, device, key, origin)
                else:
                    self._check_often(transaction, device)
                _check_same(transaction.devices.get(device), device, key)
                certificate = self._issue(transaction, request.csr_pem, device, bundle)
        except Conflict as exc:  # another device of this name came first, at the same time
            raise _device_exists(device) from exc
        if grant.device == device:
            self.write_revocations()
        if self.admission is not None:
            self.admission.tell(device)
        return EnrolReply(
            device=device,
            certificate_pem=certificate,
            ca_pem=bundle,
            root_json=self.ca.root_json,
            metadata_path=self.site.metadata_path,
            targets_path=self.site.targets_path,
            topic_root=self.site.topic_root,
            broker=self.site.broker,
        )

    def renew(self, device: DeviceId, csr_pem: str) -> str:
        """Return a new certificate (PEM) for a device that asks at the broker, for the key that it is
        enrolled with; raise `Forbidden` (``renew.*``, ``device.revoked``)."""
        key, now_ms = self.ca.public_key_digest(csr_pem), self.clock.now_ms()
        with self.uow.begin() as transaction:
            known = transaction.devices.lock(device)
            if known is None or known.public_key_sha256 != key:
                raise Forbidden(
                    f"{device} is not enrolled with this key",
                    hint="enrol it anew: fleet device token --for DEVICE",
                    code="renew.key",
                )
            check_not_revoked(known)
            self._check_often(transaction, device)
            certificate = self._issue(transaction, csr_pem, device, self._find_announced())
            ends = {"expires_ms": self.ca.describe(certificate).expires_ms}
            note(transaction, device_actor(device, "broker"), now_ms, "device.renew", device, after=ends)
        return certificate

    def find_authorities(self, ca_sha256: str | None = None) -> str:
        """Return the authorities (PEM) that a token names by this digest, or all."""
        return (self.ca.find_bundle(Digest(ca_sha256)) if ca_sha256 else None) or self.ca.ca_pem

    def _check_secret(self, secret: str, origin: str) -> None:
        """Keep those who guess from the database's only writer, and from signatures."""
        now_ms = self.clock.now_ms()
        self.attempts.check(origin, now_ms)
        with self.uow.read() as transaction:
            if transaction.enrolments.get(hash_secret(secret)) is not None:
                return
        self.attempts.wrong(origin, now_ms)
        raise unknown_token()

    def _take(
        self, transaction: Transaction, secret: str, device: DeviceId, key: Digest
    ) -> tuple[EnrolmentGrant, bool]:
        grant, now_ms = transaction.enrolments.lock(hash_secret(secret)), self.clock.now_ms()
        if grant is None:
            raise unknown_token()
        uses = transaction.enrolments.uses(grant.secret_sha256)
        first = check_grant(grant, uses, device, key, now_ms)
        if first:
            transaction.enrolments.add_use(EnrolmentUse(grant.secret_sha256, key, device, now_ms))
        return grant, first

    def _check_register(self, grant: EnrolmentGrant, device: DeviceId, key: Digest) -> None:
        """A database that was restored from a backup takes tokens to be unused, ids to be free and devices
        to be welcome that are not: only a token that was made for the device gets past the register."""
        entry = None if self.register is None else self.register.get(device)
        if entry is None:
            return
        if grant.device == device:
            _check_newer(grant, device, entry.revoked_ms)
            return
        if entry.public_key_sha256 != key:
            raise _device_exists(device)
        if entry.revoked_ms is not None:
            raise revoked(device)

    def _check_often(self, transaction: Transaction, device: DeviceId) -> None:
        since_ms = self.clock.now_ms() - DAY_MS
        if transaction.certificates.count_since(device, since_ms) >= RENEWALS_PER_DAY:
            raise Forbidden(
                f"{device} got {RENEWALS_PER_DAY} certificates within a day",
                hint="can it store them? fleet-agent doctor",
                code="renew.often",
            )

    def _find_announced(self) -> str | None:
        """Return the newest authority that devices know: they refuse certificates of another. Its news may
        wait for a broker that reads its files, or for people who sign."""
        return next((pem for pem in self.announced() if self.ca.find_bundle(digest_of(pem.encode()))), None)

    def _find_bundle(self, grant: EnrolmentGrant) -> str:
        """Return the authorities that the token names: its device refuses any other."""
        bundle = self.ca.ca_pem if grant.ca_sha256 is None else self.ca.find_bundle(grant.ca_sha256)
        if bundle is None:
            raise Forbidden(
                "the authority that the enrolment token names is believed no more",
                hint="make another: fleet device token",
                code="enrol.token.authority",
            )
        return bundle

    def _admit(
        self, transaction: Transaction, grant: EnrolmentGrant, device: DeviceId, key: Digest, origin: str
    ) -> None:
        """Insert a new device; change one only with a token that was made for it: of two with the same id
        and different tokens, at once, the second is refused."""
        known, now_ms = transaction.devices.lock(device), self.clock.now_ms()
        before = None if known is None else {"public_key_sha256": known.public_key_sha256}
        if known is None:
            new = Device(id=device, enrolled_ms=now_ms, public_key_sha256=key, labels=grant.labels)
            transaction.devices.add(new)
        elif grant.device == device:
            _check_newer(grant, device, known.revoked_ms)
            transaction.certificates.revoke(device, now_ms, but=key)
            transaction.devices.put(replace(known, public_key_sha256=key, revoked_ms=None))
        after = {"public_key_sha256": key, "labels": dict(grant.labels), "token": grant.id}
        by = device_actor(device, origin)
        note(transaction, by, now_ms, "device.enrol", device, before=before, after=after)

    def _issue(self, transaction: Transaction, csr_pem: str, device: DeviceId, bundle: str | None) -> str:
        """Sign, and remember what was signed. The register is written before the commit: it may know a
        device that the database does not know, and never the other way round."""
        certificate = self.ca.sign_csr(csr_pem, device, bundle=bundle, at_ms=self.clock.now_ms())
        issued = self.ca.describe(certificate)
        transaction.certificates.add(issued)
        if self.register is not None:
            entry = RegisteredDevice(device, issued.public_key_sha256, issued.serial, issued.expires_ms)
            self.register.put(entry)
        return certificate


def device_actor(device: DeviceId, origin: str) -> Actor:
    return Actor(device, Role.VIEWER, origin)


def _check_same(known: Device | None, device: DeviceId, key: Digest) -> None:
    """Raise unless the device is enrolled with this key, and not revoked."""
    if known is None or known.public_key_sha256 != key:
        raise _device_exists(device)
    check_not_revoked(known)


def _check_newer(grant: EnrolmentGrant, device: DeviceId, revoked_ms: int | None) -> None:
    """Raise for a token that was made before its device was revoked: whoever revoked it meant that too."""
    if revoked_ms is not None and grant.created_ms < revoked_ms:
        raise revoked(device)


def _device_exists(device: DeviceId) -> Conflict:
    return Conflict(
        f"a device with the id {device!r} is enrolled already, with another key",
        hint="give this device another id: fleet-agent enrol --id NAME; if it is that device, and lost its "
        "key: fleet device token --for NAME",
        code="enrol.device.exists",
    )
