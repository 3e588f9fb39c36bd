"""What a device with a valid certificate may try at a broker, as data: the list is the same for each broker.

``{own}`` is the attacker's id, ``{victim}`` another device's, ``{root}`` the root of Fleet's topics.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

OTHERS_TOPICS: Final = tuple(
    f"{{root}}/devices/{{victim}}/{channel}"
    for channel in (
        "presence",
        "reported",
        "telemetry",
        "fetch",
        "response/1",
        "desired",
        "ack",
        "chunk",
        "command/1",
    )
)
"""Every topic of another device, in both directions."""

CONTROLLERS_TOPICS: Final = (
    "{root}/devices/{own}/desired",
    "{root}/devices/{own}/ack",
    "{root}/devices/{own}/chunk",
    "{root}/devices/{own}/command/1",
    "{root}/releases",
    "{root}/devices/ctl-fleet/presence",
)
"""What only the controller says, to the attacker itself too."""

BEYOND: Final = (
    "{root}",
    "{root}/devices",
    "{root}/devices/{own}",
    "{root}/devices/{own}/else",
    "{root}/devices/{own}/response",
    "{root}/devices/{own}/response/1/2",
    "{root}/devices/{own}/reported/",
    "/{root}/devices/{own}/reported",
    "{root}/devices//{own}/reported",
    "{root}/devices/%u/reported",
    "{root}/devices/%c/reported",
    "other/topic",
    "$CONTROL/dynamic-security/v1",
    "$SYS/broker/version",
)
"""What is nobody's."""

SUBSCRIPTIONS: Final = (
    *OTHERS_TOPICS,
    "{root}/devices/{victim}/#",
    "{root}/devices/{victim}/+",
    "{root}/devices/{victim}/command/+",
    "{root}/devices/+/desired",
    "{root}/devices/+/command/+",
    "{root}/devices/+/+",
    "{root}/devices/#",
    "{root}/#",
    "{root}/+",
    "{root}/+/{victim}/desired",
    "{root}/releases/#",
    "+/+/devices/{victim}/desired",
    "+/#",
    "#",
    "{root}/devices/{own}/#",
    "{root}/devices/{own}/command/#",
    "{root}/devices/{own}/reported",
    "$share/group/{root}/devices/{victim}/desired",
    "$share/group/{root}/devices/{own}/desired",
    "$share/group/#",
    "$SYS/#",
    "$CONTROL/#",
    "$CONTROL/dynamic-security/v1/response",
)


class Kind(str, Enum):
    PUBLISH = "publish"
    WILL = "will"
    """The message that the broker sends when the connection breaks."""


@dataclass(frozen=True)
class Forgery:
    """A message that must reach nobody."""

    kind: Kind
    topic: str
    retain: bool

    def __str__(self) -> str:
        return f"{self.kind.value}{'-retained' if self.retain else ''} {self.topic}"


FORGERIES: Final = tuple(
    Forgery(kind, topic, retain)
    for kind, retain in ((Kind.PUBLISH, False), (Kind.PUBLISH, True), (Kind.WILL, True))
    for topic in (*OTHERS_TOPICS, *CONTROLLERS_TOPICS, *BEYOND)
)

FALSE_NAMES: Final = ("{victim}", "ctl-fleet", "ctl-anything", "{root}", "+", "%u")
"""Client ids and user names that are not the attacker's."""
