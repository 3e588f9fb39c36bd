"""MQTT topics as values: build one, parse one, filter for many. The root prefix is a field."""

from dataclasses import dataclass
from enum import Enum

from fleet_shared.errors import InvalidName, InvalidTopic
from fleet_shared.names import DeviceId, parse_device_id


class Channel(str, Enum):
    """The last word of a device's topic."""

    PRESENCE = "presence"
    REPORTED = "reported"
    DESIRED = "desired"
    TELEMETRY = "telemetry"
    ACK = "ack"
    FETCH = "fetch"
    CHUNK = "chunk"


TO_CLOUD = (Channel.PRESENCE, Channel.REPORTED, Channel.TELEMETRY, Channel.FETCH)
"""What a device writes and the controller reads."""

TO_DEVICE = (Channel.DESIRED, Channel.ACK, Channel.CHUNK)
"""What the controller writes and the device reads."""


@dataclass(frozen=True)
class DeviceTopic:
    device: DeviceId
    channel: Channel


@dataclass(frozen=True)
class Topics:
    """The topics under one root, such as ``fleet/v1``."""

    root: str = "fleet/v1"

    def __post_init__(self) -> None:
        words = self.root.split("/")
        if len(words) > 3 or not all(words) or any(c in self.root for c in "+#\0$"):
            raise InvalidTopic(
                f"topic root {self.root!r} is not valid",
                hint="use one to three words between slashes, without '+', '#' and '$'",
            )

    def device(self, device: DeviceId, channel: Channel) -> str:
        return f"{self.root}/devices/{device}/{channel.value}"

    def every_device(self, channel: Channel) -> str:
        """Return the filter that matches this channel of all devices."""
        return f"{self.root}/devices/+/{channel.value}"

    @property
    def releases(self) -> str:
        """Where the newest timestamp of the release repository is retained, for all."""
        return f"{self.root}/releases"

    def parse(self, topic: str) -> DeviceTopic:
        """Return the device and channel that ``topic`` names, or raise `InvalidTopic`."""
        prefix = f"{self.root}/devices/"
        words = topic.removeprefix(prefix).split("/")
        if not topic.startswith(prefix) or len(words) != 2:
            raise InvalidTopic(f"topic {topic!r} is not a device topic under {self.root!r}")
        try:
            return DeviceTopic(parse_device_id(words[0]), Channel(words[1]))
        except (InvalidName, ValueError) as exc:
            raise InvalidTopic(f"topic {topic!r} is not one of Fleet's: {exc}") from exc
