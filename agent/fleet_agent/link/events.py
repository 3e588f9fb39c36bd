"""What the connection tells the supervisor. Callbacks of the MQTT client only put one of these
on the supervisor's queue."""

from dataclasses import dataclass

from fleet_shared.topics import Channel


@dataclass(frozen=True)
class Connected:
    session: str


@dataclass(frozen=True)
class Disconnected:
    """``untrusted``: what answered is not known to be the broker."""

    reason: str
    untrusted: bool = False


@dataclass(frozen=True)
class MessageReceived:
    channel: Channel
    payload: bytes


@dataclass(frozen=True)
class ReleasesNews:
    """The newest timestamp of the releases, as the broker has it: not verified."""

    payload: bytes


LinkEvent = Connected | Disconnected | MessageReceived | ReleasesNews
