"""The replacement of the certificate authority: begun by people, carried out by devices, ended by people.

From its beginning both authorities are believed, devices learn of the newer through the releases, and what
they renew comes from it. At its end the older one is believed no more: whoever still shows its certificate
is cut off, and whoever has not heard of the newer one does not know the controller.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fleet_cloud.domain.device import Device
from fleet_cloud.domain.people import Actor
from fleet_cloud.errors import Conflict
from fleet_cloud.services.audit import note
from fleet_cloud.services.devices import all_devices
from fleet_cloud.services.ports import Authorities, Clock, UnitOfWork
from fleet_cloud.services.upkeep import Upkeep
from fleet_shared.names import DeviceId, Digest

NAMED: Final = 5
SUBJECT: Final = "authority"


@dataclass(frozen=True, slots=True)
class RotationStatus:
    """``fingerprints``: the authorities that are believed, newest first. Of ``devices`` that count,
    ``believing`` know the newest, ``holding`` show a certificate of it, and ``behind`` do not do both."""

    fingerprints: tuple[Digest, ...]
    devices: int
    believing: int
    holding: int
    behind: tuple[DeviceId, ...]

    @property
    def running(self) -> bool:
        return len(self.fingerprints) > 1


@dataclass(frozen=True, slots=True)
class AuthorityRotation:
    uow: UnitOfWork
    clock: Clock
    authorities: Authorities
    upkeep: Upkeep

    def status(self) -> RotationStatus:
        with self.uow.read() as transaction:
            devices = list(all_devices(transaction))
            ends = transaction.certificates.last_ends()
        return describe(self.authorities.fingerprints, devices, ends, self.clock.now_ms())

    def begin(self, by: Actor) -> RotationStatus:
        """Make a newer authority beside the one that there is; raise `Conflict`
        (``authority.rotation.running``)."""
        before = self.authorities.fingerprints
        self.authorities.begin_rotation()
        self._note("authority.rotate", before, by)
        self.upkeep.turn()
        return self.status()

    def finish(self, by: Actor, *, force: bool) -> RotationStatus:
        """Believe the newest authority alone. Raises `Conflict` (``authority.rotation.none``, and
        ``authority.rotation.early`` while devices would be cut off, unless by ``force``)."""
        status, before = self.status(), self.authorities.fingerprints
        if not status.running:
            raise Conflict(
                "no authority is being replaced",
                hint="fleet trust rotate ca begins it",
                code="authority.rotation.none",
            )
        if status.behind and not force:
            raise _early(status)
        self.authorities.finish_rotation()
        self._note("authority.finish", before, by)
        self.upkeep.turn()
        return self.status()

    def _note(self, action: str, before: tuple[Digest, ...], by: Actor) -> None:
        with self.uow.begin() as transaction:
            after = self.authorities.fingerprints
            note(transaction, by, self.clock.now_ms(), action, SUBJECT, before=before, after=after)


def describe(
    fingerprints: tuple[Digest, ...], devices: Iterable[Device], ends: Mapping[DeviceId, int], now_ms: int
) -> RotationStatus:
    """Return how far the devices are. Those that are revoked do not count, nor do those whose last
    certificate has ended: both are cut off already. Pure."""
    newest = fingerprints[0]
    counted = [d for d in devices if d.revoked_ms is None and ends.get(d.id, now_ms + 1) > now_ms]
    believing = {d.id for d in counted if newest in _believed(d)}
    holding = {d.id for d in counted if _issuer(d) == newest}
    behind = tuple(d.id for d in counted if d.id not in believing & holding)
    return RotationStatus(fingerprints, len(counted), len(believing), len(holding), behind)


def _believed(device: Device) -> tuple[Digest, ...]:
    trust = None if device.reported is None else device.reported.trust
    return () if trust is None else trust.authorities


def _issuer(device: Device) -> Digest | None:
    trust = None if device.reported is None else device.reported.trust
    return None if trust is None else trust.issuer


def _early(status: RotationStatus) -> Conflict:
    more = "" if len(status.behind) <= NAMED else f" and {len(status.behind) - NAMED} more"
    return Conflict(
        f"{len(status.behind)} of {status.devices} devices would be cut off: "
        f"{', '.join(status.behind[:NAMED])}{more}",
        hint="they change by themselves while they are online; what is lost can be revoked; --force ends it "
        "anyway, and each that is cut off needs fleet device token --for DEVICE",
        code="authority.rotation.early",
    )
