"""From the broker's messages to the use cases, and their answers back."""

import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.observe import Observe
from fleet_shared.errors import FleetError
from fleet_shared.messages.fetch import Fetch
from fleet_shared.messages.presence import Presence
from fleet_shared.messages.reported import Reported
from fleet_shared.messages.telemetry import TelemetryBatch
from fleet_shared.names import DeviceId
from fleet_shared.topics import Channel, Topics
from fleet_shared.wire import Document, decode, encode

log = logging.getLogger(__name__)

WAIT_S: Final = 0.5


class Message(Protocol):
    @property
    def topic(self) -> str | None: ...

    @property
    def payload(self) -> bytes: ...


class Incoming(Protocol):
    def get(self, block: bool = True, timeout: float | None = None) -> Message: ...


@dataclass(frozen=True, slots=True)
class Ingest:
    """``answer`` publishes to a device; ``changed`` wakes the tick and the publisher."""

    incoming: Incoming
    topics: Topics
    observe: Observe
    blobs: Blobs
    answer: Callable[[str, bytes], None]
    changed: Callable[[], None]

    def turn(self) -> float:
        """Handle one message; malformed ones are logged and dropped."""
        try:
            message = self.incoming.get(timeout=WAIT_S)
        except queue.Empty:
            return 0.0
        if message.topic is None:
            self.observe.republish_unmet()
            self.changed()
            return 0.0
        try:
            self._handle(message.topic, message.payload)
        except FleetError as exc:
            log.warning("a message on %s is dropped: %s (%s)", message.topic, exc.message, exc.code)
        return 0.0

    def _handle(self, topic: str, payload: bytes) -> None:
        parsed = self.topics.parse(topic)
        device = parsed.device
        match parsed.channel:
            case Channel.PRESENCE if payload:
                self.observe.presence(device, decode(Presence, payload))
            case Channel.REPORTED if payload:
                self.observe.reported(device, decode(Reported, payload))
                self.changed()
            case Channel.TELEMETRY:
                self._telemetry(device, payload)
            case Channel.FETCH:
                self._reply(device, Channel.CHUNK, self.blobs.url_for(device, decode(Fetch, payload)))
            case _:
                log.debug("nothing to do for %s", topic)

    def _telemetry(self, device: DeviceId, payload: bytes) -> None:
        ack = self.observe.telemetry(device, decode(TelemetryBatch, payload))
        if ack is not None:
            self._reply(device, Channel.ACK, ack)
            self.changed()

    def _reply(self, device: DeviceId, channel: Channel, document: Document) -> None:
        self.answer(self.topics.device(device, channel), encode(document))
