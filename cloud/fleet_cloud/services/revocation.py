"""Devices that are let in no more, and those that are let in again: both are people's decisions.

A device is revoked in the database, in the register beside the authority's keys, in the revocation list and
at the broker. The first decides. The register is written before the commit: where the two differ after a
crash or a restored backup, whichever says "revoked" is right.
"""

import threading
from dataclasses import dataclass, field, replace
from typing import Final

from fleet_cloud.domain.device import Device
from fleet_cloud.domain.people import Actor
from fleet_cloud.domain.rollout import AssignmentState
from fleet_cloud.errors import NotFound
from fleet_cloud.services.admission import Admission
from fleet_cloud.services.audit import note
from fleet_cloud.services.devices import get_device
from fleet_cloud.services.ports import (
    Clock,
    IdentityRegister,
    IssuedCertificate,
    OutgoingMessage,
    RegisteredDevice,
    TlsFolder,
    Transaction,
    UnitOfWork,
)
from fleet_shared.messages.reported import Failure
from fleet_shared.names import DeviceId, parse_device_id
from fleet_shared.topics import Channel, Topics

REVOKED: Final = Failure(
    code="device.revoked",
    message="the device was revoked",
    hint="fleet device readmit lets it in again; then push again",
)


@dataclass(frozen=True, slots=True)
class Revocation:
    uow: UnitOfWork
    clock: Clock
    topics: Topics
    register: IdentityRegister
    admission: Admission
    tls: TlsFolder
    _listing: threading.Lock = field(default_factory=threading.Lock)

    def revoke(self, device: str, by: Actor) -> tuple[Device, bool]:
        """Let a device in no more, and end what it was told to do. Return it, and whether the broker has cut
        it off already; what is away now is told later. Repeating it changes nothing."""
        name = parse_device_id(device)
        with self.uow.begin() as transaction:
            entry = self.register.get(name)
            if entry is not None and transaction.devices.get(name) is None:
                self._take_up(transaction, entry)
            revoked = self._revoke(transaction, name, self.clock.now_ms(), by)
        try:
            self.write_list()
        finally:  # a full disk, say, must not keep the session alive
            cut = self.admission.tell(name)
        return revoked, cut

    def readmit(self, device: str, by: Actor) -> Device:
        """Let a device in again, with the key that it has: one that is revoked, or one that the database
        does not know and the register does. Raises `NotFound` (``device.unknown``)."""
        name = parse_device_id(device)
        with self.uow.begin() as transaction:
            known, entry = transaction.devices.lock(name), self.register.get(name)
            if known is None and entry is None:
                raise NotFound(
                    f"no device {device!r} has ever enrolled here",
                    hint="a new one: fleet device token",
                    code="device.unknown",
                )
            readmitted = self._readmit(transaction, name, known, entry, by)
        self.write_list()
        self.admission.tell(name)
        return readmitted

    def strangers(self) -> list[RegisteredDevice]:
        """Devices with a good certificate that the database does not know, or knows with another key: it was
        restored from a backup. The broker refuses them until somebody readmits them."""
        now_ms = self.clock.now_ms()
        entries = [e for e in self.register.all() if e.revoked_ms is None and e.expires_ms > now_ms]
        with self.uow.read() as transaction:
            keys = {d.id: d.public_key_sha256 for d in transaction.devices.many([e.device for e in entries])}
        return [entry for entry in entries if keys.get(entry.device) != entry.public_key_sha256]

    def reconcile(self, by: Actor) -> list[DeviceId]:
        """Revoke again whom a restored database takes to be welcome; return them."""
        found = []
        for entry in self.register.all():
            if entry.revoked_ms is None:
                continue
            with self.uow.begin() as transaction:
                known = transaction.devices.lock(entry.device)
                if known is not None and known.revoked_ms is None:
                    self._revoke(transaction, entry.device, entry.revoked_ms, by)
                    found.append(entry.device)
        return found

    def write_list(self) -> None:
        """Bring the list up to date. One at a time: whoever read before a revocation must not write after
        it."""
        with self._listing:
            now_ms = self.clock.now_ms()
            with self.uow.read() as transaction:
                revoked = transaction.certificates.revoked(now_ms)
            self.tls.write_revocations(revoked, now_ms)

    def _revoke(self, transaction: Transaction, name: DeviceId, at_ms: int, by: Actor) -> Device:
        known = transaction.devices.lock(name) or get_device(transaction, name)
        if known.revoked_ms is not None:
            return known
        revoked = replace(known, revoked_ms=at_ms, online=False, session=None)
        self._register(revoked)
        transaction.devices.put(revoked)
        transaction.certificates.revoke(name, at_ms)
        now_ms = self.clock.now_ms()
        for open_one in transaction.assignments.lock_open_of_device(name):
            transaction.assignments.put(
                replace(open_one, state=AssignmentState.FAILED, failure=REVOKED, updated_ms=now_ms)
            )
        # Nothing lies at the broker for whoever comes under this name.
        desired = self.topics.device(name, Channel.DESIRED)
        transaction.outbox.add(OutgoingMessage(desired, b"", retain=True))
        note(transaction, by, now_ms, "device.revoke", name, before=_shown(known), after=_shown(revoked))
        return revoked

    def _readmit(
        self,
        transaction: Transaction,
        name: DeviceId,
        known: Device | None,
        entry: RegisteredDevice | None,
        by: Actor,
    ) -> Device:
        if entry is not None:
            self.register.put(replace(entry, revoked_ms=None))
            readmitted = replace(self._take_up(transaction, entry), revoked_ms=None)
        else:
            readmitted = replace(known or get_device(transaction, name), revoked_ms=None)
        if known != readmitted:
            transaction.devices.put(readmitted)
            transaction.certificates.restore(name, readmitted.public_key_sha256)
            before, now_ms = None if known is None else _shown(known), self.clock.now_ms()
            note(transaction, by, now_ms, "device.readmit", name, before=before, after=_shown(readmitted))
        return readmitted

    def _take_up(self, transaction: Transaction, entry: RegisteredDevice) -> Device:
        """Bring into the database what the register knows of a device: where the two differ, its key is the
        newer one."""
        name, now_ms = entry.device, self.clock.now_ms()
        device = Device(id=name, enrolled_ms=now_ms, public_key_sha256=entry.public_key_sha256)
        known = transaction.devices.get(name)
        if known is not None:
            device = replace(known, public_key_sha256=entry.public_key_sha256)
        transaction.devices.put(device)
        if entry.expires_ms > now_ms and not transaction.certificates.has(entry.serial):
            transaction.certificates.add(
                IssuedCertificate(entry.serial, name, entry.public_key_sha256, now_ms, entry.expires_ms)
            )
        return device

    def _register(self, revoked: Device) -> None:
        """A device of an older version is not in the register: no certificate of it is known."""
        entry = self.register.get(revoked.id)
        unknown = RegisteredDevice(revoked.id, revoked.public_key_sha256, "0", 0)
        self.register.put(replace(entry or unknown, revoked_ms=revoked.revoked_ms))


def _shown(device: Device) -> dict[str, object]:
    return {"public_key_sha256": device.public_key_sha256, "revoked_ms": device.revoked_ms}
