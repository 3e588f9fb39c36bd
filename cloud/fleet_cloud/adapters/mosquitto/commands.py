"""What Fleet tells Mosquitto's dynamic security: a device is a client with a role of its own. Pure.

Mosquitto 2.0 puts no names into the rules of a role (2.1 is the first that knows ``%u``), so one role for
all devices is not possible. What is not allowed is denied, by default and for messages on their way to a
client too: a subscription from before carries nothing when the right is gone.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fleet_cloud.domain.topic_rules import TopicRules, device_rules, rules_of
from fleet_shared.names import DeviceId, Digest
from fleet_shared.topics import Topics

ADMINISTRATION: Final = "$CONTROL/dynamic-security/#"
ROLE_PREFIX: Final = "device-"
CONTROLLER_ROLE: Final = "controller"
NO_CLIENT: Final = "Client not found"
NO_ROLE: Final = "Role not found"
CLIENT_EXISTS: Final = "Client already exists"


@dataclass(frozen=True, slots=True)
class Command:
    """``tolerated``: the plugin's error that says that there was nothing to do."""

    name: str
    fields: Mapping[str, object] = field(default_factory=dict)
    tolerated: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A device as the broker is to know it: ``mark`` tells the key and the rules that it was let in with,
    so that a change of either is seen."""

    device: DeviceId
    mark: str
    rules: TopicRules


def entry_of(topics: Topics, device: DeviceId, public_key_sha256: Digest) -> Entry:
    rules = device_rules(topics, device)
    shape = hashlib.sha256(json.dumps(role_acls(rules)).encode()).hexdigest()[:16]
    return Entry(device, f"key {public_key_sha256} rules {shape}", rules)


def admission(entry: Entry) -> list[Command]:
    """Return what lets a device in that the broker does not know."""
    role = {"rolename": role_name(entry.device), "acls": role_acls(entry.rules)}
    return [
        Command("deleteRole", {"rolename": role_name(entry.device)}, NO_ROLE),
        Command("createRole", role),
        Command("createClient", _client(entry)),
    ]


def expulsion(device: DeviceId) -> list[Command]:
    """Return what cuts the live session of a device, and takes all rights.

    Deleting cuts, disabling would not do: the plugin looks at that for passwords only, so that a disabled
    client with a certificate comes back with all its rights. A client is made before where there is none:
    one that was deleted earlier and has connected since is cut as well."""
    return [
        Command("createClient", {"username": device}, CLIENT_EXISTS),
        Command("deleteClient", {"username": device}),
        Command("deleteRole", {"rolename": role_name(device)}, NO_ROLE),
    ]


def start_state(topics: Topics, controller: str, entries: Iterable[Entry]) -> dict[str, Any]:
    """Return the plugin's file with the controller, and the devices that are known already."""
    known = list(entries)
    administration = [
        _acl(kind, ADMINISTRATION)
        for kind in ("publishClientSend", "publishClientReceive", "subscribePattern")
    ]
    acls = role_acls(rules_of(topics, controller)) + administration
    return {
        "defaultACLAccess": {
            "publishClientSend": False,
            "publishClientReceive": False,
            "subscribe": False,
            "unsubscribe": True,
        },
        "clients": [
            {"username": controller, "roles": [{"rolename": CONTROLLER_ROLE}]},
            *(_client(entry) for entry in known),
        ],
        "groups": [],
        "roles": [
            {"rolename": CONTROLLER_ROLE, "acls": acls},
            *({"rolename": role_name(entry.device), "acls": role_acls(entry.rules)} for entry in known),
        ],
    }


def role_acls(rules: TopicRules) -> list[dict[str, object]]:
    """Return rules as the plugin writes them: a filter may be subscribed to when a rule covers it, which
    is what ``subscribePattern`` means."""
    return [
        *(_acl("publishClientSend", topic) for topic in rules.publish),
        *(_acl(kind, topic) for kind in ("publishClientReceive", "subscribePattern") for topic in rules.read),
    ]


def role_name(device: str) -> str:
    return f"{ROLE_PREFIX}{device}"


def encode(commands: Sequence[Command], correlation: str) -> bytes:
    """Return the message for these commands; each answer says ``correlation`` again."""
    return json.dumps(
        {
            "commands": [
                {"command": command.name, **command.fields, "correlationData": correlation}
                for command in commands
            ]
        }
    ).encode()


def _client(entry: Entry) -> dict[str, object]:
    roles = [{"rolename": role_name(entry.device)}]
    return {"username": entry.device, "textdescription": entry.mark, "roles": roles}


def _acl(kind: str, topic: str) -> dict[str, object]:
    return {"acltype": kind, "topic": topic, "priority": 0, "allow": True}
