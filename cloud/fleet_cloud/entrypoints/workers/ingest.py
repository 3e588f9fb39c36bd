"""From the broker's messages to the use cases, and their answers back."""

import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from fleet_cloud.errors import Conflict, Invalid, Unavailable
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
HELD_S: Final = 1.0


class Message(Protocol):
    @property
    def topic(self) -> str | None: ...

    @property
    def payload(self) -> bytes: ...

    @property
    def retained(self) -> bool: ...


class Incoming(Protocol):
    def get(self, timeout: float) -> Message: ...


@dataclass(slots=True)
class Ingest:
    """``ask`` takes a device's question, to be answered elsewhere: that may take as long as a store does.
    ``answer`` publishes to a device; ``changed`` wakes the tick and the publisher."""

    incoming: Incoming
    topics: Topics
    observe: Observe
    ask: Callable[[DeviceId, Fetch], None]
    answer: Callable[[str, bytes], object]
    changed: Callable[[], None]
    _held: Message | None = None

    def turn(self) -> float:
        """Handle one message; malformed ones are logged and dropped. While the database is away the
        message is held: presence and reports are said once, and not sent again."""
        message = self._next()
        if message is None:
            return 0.0
        try:
            self._handle(message)
        except Unavailable as exc:
            log.warning("a message waits: %s (%s)", exc.message, exc.code)
            self._held = message
            return HELD_S
        except FleetError as exc:
            log.warning("a message on %s is dropped: %s (%s)", message.topic, exc.message, exc.code)
        except Exception:  # the guard between messages: one device must not hold up the others
            log.exception("a message on %s is dropped", message.topic)
        return 0.0

    def _next(self) -> Message | None:
        held, self._held = self._held, None
        if held is not None:
            return held
        try:
            return self.incoming.get(timeout=WAIT_S)
        except queue.Empty:
            return None

    def _handle(self, message: Message) -> None:
        if message.topic is None:
            self.observe.republish_unmet()
            self.changed()
            return
        parsed, payload = self.topics.parse(message.topic), message.payload
        device = parsed.device
        match parsed.channel:
            case Channel.PRESENCE if payload:
                self.observe.presence(device, decode(Presence, payload), retained=message.retained)
            case Channel.REPORTED if payload:
                if self.observe.reported(device, decode(Reported, payload), retained=message.retained):
                    self.changed()
            case Channel.TELEMETRY:
                self._telemetry(device, decode(TelemetryBatch, payload))
            case Channel.FETCH:
                self.ask(device, decode(Fetch, payload))
            case _:
                log.debug("nothing to do for %s", message.topic)

    def _telemetry(self, device: DeviceId, batch: TelemetryBatch) -> None:
        try:
            ack, moved = self.observe.telemetry(device, batch)
        except (Invalid, Conflict) as exc:  # unanswered it would come again for ever
            log.warning("telemetry of %s goes to the dead letters: %s (%s)", device, exc.message, exc.code)
            ack, moved = self.observe.refuse_telemetry(device, batch, exc.code)
        if ack is not None:
            self._reply(device, Channel.ACK, ack)
        if moved:
            self.changed()

    def _reply(self, device: DeviceId, channel: Channel, document: Document) -> None:
        self.answer(self.topics.device(device, channel), encode(document))
