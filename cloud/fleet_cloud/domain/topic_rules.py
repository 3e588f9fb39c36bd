"""Who may say and hear what at the broker. Pure; every broker that Fleet configures enforces these rules.

A rule is an MQTT filter. A client may publish on a topic that one of its filters matches, and may subscribe
to a filter when one of its own covers it: matches at least every topic that the asked one does. What no
rule allows is refused, wills included. Patterns for a broker that fills in the name itself come from
``device_rules(topics, "%u")``.

Commands and their answers have one more word, a number: they are part of the protocol, also where nothing
sends them yet.
"""

from dataclasses import dataclass
from typing import Final

from fleet_shared.names import CONTROLLER_PREFIX, DeviceId
from fleet_shared.topics import TO_CLOUD, TO_DEVICE, Channel, Topics

RETAINED_BY_DEVICES: Final = (Channel.PRESENCE, Channel.REPORTED)
"""Of what a device says, the broker keeps the pictures only: all else would grow without end."""

ANSWERS: Final = "response/+"
COMMANDS: Final = "command/+"


@dataclass(frozen=True, slots=True)
class TopicRules:
    """Filters: what one client may publish, of that what the broker keeps (``retain``), what it may read."""

    publish: tuple[str, ...]
    retain: tuple[str, ...]
    read: tuple[str, ...]

    def may_publish(self, topic: str, *, retain: bool) -> bool:
        """Tell whether a message may be sent on ``topic``, a will too."""
        allowed = self.retain if retain else self.publish
        return is_topic(topic) and any(matches(rule, topic) for rule in allowed)

    def may_subscribe(self, asked: str) -> bool:
        """Tell whether every topic that ``asked`` matches may be read."""
        return is_filter(asked) and any(covers(rule, asked) for rule in self.read)

    def may_read(self, topic: str) -> bool:
        """Tell whether a message on ``topic`` may be delivered."""
        return any(matches(rule, topic) for rule in self.read)


def device_rules(topics: Topics, device: str) -> TopicRules:
    """Return what a device may: its own topics in their direction, and to read the newest release."""
    name = DeviceId(device)
    own = f"{topics.root}/devices/{name}"
    return TopicRules(
        publish=(*(topics.device(name, channel) for channel in TO_CLOUD), f"{own}/{ANSWERS}"),
        retain=tuple(topics.device(name, channel) for channel in RETAINED_BY_DEVICES),
        read=(
            *(topics.device(name, channel) for channel in TO_DEVICE),
            f"{own}/{COMMANDS}",
            topics.releases,
        ),
    )


def controller_rules(topics: Topics) -> TopicRules:
    """Return what the controller may: everything under the root, and nothing beside it."""
    everything = (f"{topics.root}/#",)
    return TopicRules(publish=everything, retain=everything, read=everything)


def rules_of(topics: Topics, name: str) -> TopicRules:
    """Return the rules of the client whose certificate names ``name``."""
    return controller_rules(topics) if is_controller(name) else device_rules(topics, name)


def is_controller(name: str) -> bool:
    return name.startswith(CONTROLLER_PREFIX)


def is_topic(text: str) -> bool:
    """Tell whether ``text`` names one topic that clients may use: no wildcard, none of the broker's own."""
    return bool(text) and not text.startswith("$") and not any(c in text for c in "+#\0")


def is_filter(text: str) -> bool:
    """Tell whether ``text`` is a filter as MQTT writes them (3.1.1, section 4.7.1)."""
    levels = text.split("/")
    return (
        bool(text)
        and "\0" not in text
        and all(level in ("+", "#") or not ("+" in level or "#" in level) for level in levels)
        and "#" not in levels[:-1]
    )


def matches(pattern: str, topic: str) -> bool:
    """Tell whether a filter matches a topic; a leading wildcard matches none of the broker's own topics."""
    if topic.startswith("$") and pattern.startswith(("+", "#")):
        return False
    return covers(pattern, topic)


def covers(pattern: str, asked: str) -> bool:
    """Tell whether every topic that ``asked`` matches is matched by ``pattern`` as well. ``#`` is covered by
    itself only."""
    own, other = pattern.split("/"), asked.split("/")
    for index, level in enumerate(own):
        if level == "#":
            return True
        if index == len(other) or other[index] == "#" or level not in ("+", other[index]):
            return False
    return len(own) == len(other)
