"""Decides what must change so that the broker lets in exactly the devices that it should. Pure.

Clients without a role of a device are not Fleet's: an operator made them for programs of his own, such as one
that reads telemetry. They stay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fleet_cloud.adapters.mosquitto.commands import Entry, role_name
from fleet_shared.names import DeviceId


@dataclass(frozen=True, slots=True)
class Found:
    """A client as the broker has it. ``device``: it has a device's role."""

    name: str
    mark: str
    device: bool
    usable: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """``remove`` comes first: what is let in anew was in with another key or other rules."""

    remove: tuple[DeviceId, ...]
    admit: tuple[Entry, ...]

    @property
    def foreign(self) -> tuple[DeviceId, ...]:
        """Those who are to go and not to come back."""
        back = {entry.device for entry in self.admit}
        return tuple(device for device in self.remove if device not in back)


def read_client(client: Mapping[str, Any]) -> Found:
    """Return what ``listClients`` and ``getClient`` say of one client."""
    name = str(client.get("username", ""))
    roles = [str(role.get("rolename")) for role in client.get("roles", [])]
    own = role_name(name)
    return Found(
        name=name,
        mark=str(client.get("textdescription", "")),
        device=own in roles,
        usable=roles == [own] and not client.get("disabled", False),
    )


def plan_sync(wanted: Iterable[Entry], found: Iterable[Found]) -> Changes:
    entries = {entry.device: entry for entry in wanted}
    clients = {client.name: client for client in found}
    foreign = [name for name, client in clients.items() if client.device and name not in entries]
    missing = [entry for device, entry in entries.items() if not is_admitted(entry, clients.get(device))]
    stale = [entry.device for entry in missing if entry.device in clients]
    return Changes(remove=(*map(DeviceId, foreign), *stale), admit=tuple(missing))


def is_admitted(entry: Entry, client: Found | None) -> bool:
    """Tell whether a client is what this device is to have: nothing more, nothing less."""
    return client is not None and client.usable and client.mark == entry.mark
