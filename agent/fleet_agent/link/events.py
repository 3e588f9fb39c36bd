"""What the connection tells the supervisor. Callbacks of the MQTT client only put one of these
on the supervisor's queue."""

from dataclasses import dataclass

from fleet_shared.topics import Channel


@dataclass(frozen=True)
class Connected:
    session: str


@dataclass(frozen=True)
class Disconnected:
    reason: str


@dataclass(frozen=True)
class MessageReceived:
    channel: Channel
    payload: bytes


LinkEvent = Connected | Disconnected | MessageReceived
