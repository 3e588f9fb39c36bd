"""Tokens, and the devices that enrol with them."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fleet_cloud.domain.device import Device
from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.errors import Conflict, Forbidden, Invalid
from fleet_cloud.services.audit import note
from fleet_cloud.services.ports import CertificateAuthority, Clock, EnrolmentGrant, Transaction, UnitOfWork
from fleet_shared.limits import LABELS_PER_DEVICE
from fleet_shared.messages.enrolment import BrokerAddress, EnrolReply, EnrolRequest
from fleet_shared.names import DeviceId, Digest, digest_of, parse_device_id, parse_label
from fleet_shared.token import EnrolmentToken


@dataclass(frozen=True, slots=True)
class Site:
    """What a device must know of this controller."""

    topic_root: str
    metadata_path: str
    targets_path: str
    broker: BrokerAddress


@dataclass(frozen=True, slots=True)
class Enrolling:
    uow: UnitOfWork
    ca: CertificateAuthority
    clock: Clock
    site: Site

    def create_token(self, labels: Mapping[str, str], life_s: int, by: Actor) -> EnrolmentToken:
        """Return a token for one device, which gets ``labels``. Only its hash is kept."""
        checked = parse_labels(labels)
        secret = secrets.token_urlsafe(32)
        now_ms = self.clock.now_ms()
        grant = EnrolmentGrant(_hash(secret), now_ms, now_ms + life_s * 1000, checked)
        with self.uow.begin() as transaction:
            transaction.enrolments.put(grant)
            after = {"labels": checked, "expires_ms": grant.expires_ms}
            note(transaction, by, now_ms, "enrolment.token.create", grant.secret_sha256[:12], after=after)
        return EnrolmentToken(
            secret=secret,
            ca_sha256=digest_of(self.ca.ca_pem.encode()),
            root_sha256=digest_of(self.ca.root_json.encode()),
        )

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        """Give a device its identity. The same token and key again get the same right again, so
        that a lost answer burns nothing."""
        device = parse_device_id(request.device)
        key = self.ca.public_key_digest(request.csr_pem)
        certificate = self.ca.sign_csr(request.csr_pem, device)
        try:
            with self.uow.begin() as transaction:
                grant = self._check_grant(transaction, request.secret, device, key)
                transaction.enrolments.put(replace(grant, device=device, public_key_sha256=key))
                self._admit(transaction, device, key, grant.labels)
        except Conflict as exc:  # another device of this name came first, at the same time
            raise _device_exists(device) from exc
        return EnrolReply(
            device=device,
            certificate_pem=certificate,
            ca_pem=self.ca.ca_pem,
            root_json=self.ca.root_json,
            metadata_path=self.site.metadata_path,
            targets_path=self.site.targets_path,
            topic_root=self.site.topic_root,
            broker=self.site.broker,
        )

    def _check_grant(
        self, transaction: Transaction, secret: str, device: DeviceId, key: Digest
    ) -> EnrolmentGrant:
        grant = transaction.enrolments.get(_hash(secret))
        if grant is None:
            raise Forbidden(
                "the enrolment token is not known here",
                hint="make one on this controller: fleet device token",
                code="enrol.token.unknown",
            )
        if grant.public_key_sha256 is not None:
            if (grant.public_key_sha256, grant.device) != (key, device):
                raise Forbidden(
                    f"the enrolment token was used by {grant.device} with another key",
                    hint="a token is for one device: make another, fleet device token",
                    code="enrol.token.used",
                )
        elif self.clock.now_ms() > grant.expires_ms:
            raise Forbidden(
                "the enrolment token has expired",
                hint="make another: fleet device token",
                code="enrol.token.expired",
            )
        return grant

    def _admit(
        self, transaction: Transaction, device: DeviceId, key: Digest, labels: Mapping[str, str]
    ) -> None:
        """Insert a new device, never change one: of two with the same id and different tokens, at
        once, the second is refused."""
        known = transaction.devices.get(device)
        if known is not None and known.public_key_sha256 != key:
            raise _device_exists(device)
        if known is None:
            now_ms = self.clock.now_ms()
            new = Device(id=device, enrolled_ms=now_ms, public_key_sha256=key, labels=labels)
            transaction.devices.add(new)
            by = Actor(device, Role.VIEWER, "enrolment")
            after = {"public_key_sha256": key, "labels": dict(labels)}
            note(transaction, by, now_ms, "device.enrol", device, after=after)


def _device_exists(device: DeviceId) -> Conflict:
    return Conflict(
        f"a device with the id {device!r} is enrolled already, with another key",
        hint="give this device another id: fleet-agent enrol --id NAME",
        code="enrol.device.exists",
    )


def parse_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels as a device may have them; raise `InvalidName`, `Invalid` (``label.too_many``)."""
    if len(labels) > LABELS_PER_DEVICE:
        raise Invalid(
            f"a device has at most {LABELS_PER_DEVICE} labels, not {len(labels)}",
            hint="remove some first: fleet device label DEVICE KEY-",
            code="label.too_many",
        )
    return dict(parse_label(key, value) for key, value in labels.items())


def _hash(secret: str) -> Digest:
    return Digest(hashlib.sha256(secret.encode()).hexdigest())
