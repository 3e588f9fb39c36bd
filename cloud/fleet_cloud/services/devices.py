"""The inventory of devices."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from fleet_cloud.domain.device import Device
from fleet_cloud.domain.measurements import Measurement, describe_hardware
from fleet_cloud.domain.people import Actor
from fleet_cloud.domain.selector import parse_selector
from fleet_cloud.errors import Forbidden, NotFound
from fleet_cloud.services.audit import note
from fleet_cloud.services.grants import parse_labels
from fleet_cloud.services.ports import Clock, Transaction, UnitOfWork
from fleet_shared.names import DeviceId, Digest, parse_device_id

PAGE = 500
MEASUREMENTS = 100


@dataclass(frozen=True, slots=True)
class NamedMeasurement:
    """A measurement, and the variant that it is of."""

    measurement: Measurement
    model: str | None
    version: str | None
    variant: str | None


@dataclass(frozen=True, slots=True)
class Inventory:
    uow: UnitOfWork
    clock: Clock

    def get(self, device: str) -> Device:
        """Return a device; raise `NotFound` (``device.unknown``)."""
        with self.uow.read() as transaction:
            return get_device(transaction, parse_device_id(device))

    def page(self, after: DeviceId | None, limit: int) -> Sequence[Device]:
        with self.uow.read() as transaction:
            return transaction.devices.page(after, limit)

    def select(self, selector: str) -> list[Device]:
        """Return the devices that ``selector`` means, by id; raise `InvalidSelector`."""
        with self.uow.read() as transaction:
            return select_devices(transaction, selector)

    def measurements(self, device: str, limit: int = MEASUREMENTS) -> Sequence[NamedMeasurement]:
        """Return the newest measurements of devices like this one; none before it reported itself."""
        with self.uow.read() as transaction:
            found = get_device(transaction, parse_device_id(device))
            if found.reported is None:
                return []
            hardware = describe_hardware(found.reported.facts)
            named = _name_variants(transaction)
            return [
                NamedMeasurement(one, *named.get(one.manifest, (None, None, None)))
                for one in transaction.measurements.of_hardware(hardware, limit)
            ]

    def label(self, device: str, added: Mapping[str, str], removed: Collection[str], by: Actor) -> Device:
        with self.uow.begin() as transaction:
            name = parse_device_id(device)
            found = _known(transaction, name, transaction.devices.lock(name))
            kept = {key: value for key, value in found.labels.items() if key not in removed}
            changed = replace(found, labels=parse_labels({**kept, **added}))
            transaction.devices.put(changed)
            before, after = dict(found.labels), dict(changed.labels)
            note(transaction, by, self.clock.now_ms(), "device.label", name, before=before, after=after)
        return changed


def _name_variants(transaction: Transaction) -> dict[Digest, tuple[str, str, str]]:
    return {
        variant.digest: (version.model, str(version.version), variant.name)
        for version in transaction.models.versions(None)
        for variant in version.variants
    }


def get_device(transaction: Transaction, device: DeviceId) -> Device:
    """Raise `NotFound` (``device.unknown``) with what comes close."""
    return _known(transaction, device, transaction.devices.get(device))


def _known(transaction: Transaction, device: DeviceId, found: Device | None) -> Device:
    if found is None:
        close = get_close_matches(device, [known.id for known in all_devices(transaction)], 3)
        hint = f"did you mean {', '.join(close)}?" if close else "fleet device list shows all"
        raise NotFound(f"no device {device!r}", hint=hint, code="device.unknown")
    return found


def check_not_revoked(known: Device | None) -> None:
    """Raise `Forbidden` (``device.revoked``). Whoever is not known is refused by what he asks for."""
    if known is not None and known.revoked_ms is not None:
        raise revoked(known.id)


def revoked(device: DeviceId) -> Forbidden:
    return Forbidden(
        f"{device} is revoked",
        hint="an operator may let it in again: fleet device readmit, or fleet device token --for",
        code="device.revoked",
    )


def select_devices(transaction: Transaction, selector: str) -> list[Device]:
    parsed = parse_selector(selector)
    return [device for device in all_devices(transaction) if parsed.matches(device.attributes)]


def all_devices(transaction: Transaction) -> Iterator[Device]:
    after: DeviceId | None = None
    while page := transaction.devices.page(after, PAGE):
        yield from page
        after = page[-1].id
