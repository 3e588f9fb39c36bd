"""One client that was let in: what it sends is done in its order, what it hears goes through its outbox.

Where this replaces amqtt's handler: that one starts a task for each packet, without bound; never ends a
client that has fallen silent; reads 256 MiB when a head says so; goes on after a packet that it could not
understand.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.packet import MQTTPacket
from amqtt.mqtt.pingresp import PingRespPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.plugins.manager import PluginManager
from amqtt.session import Session

from fleet_cloud.adapters.broker.admission import Code
from fleet_cloud.adapters.broker.identity import Identity
from fleet_cloud.adapters.broker.outbox import CONTROLLER, DEVICE, Message, Outbox
from fleet_cloud.adapters.broker.pace import BURST_PACKETS, PACKETS_PER_S, Pace
from fleet_cloud.adapters.broker.packets import (
    Ack,
    Connect,
    Disconnect,
    Kind,
    Malformed,
    Packet,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
    decode,
)
from fleet_cloud.adapters.broker.wire import Wire
from fleet_cloud.domain.topic_rules import TopicRules, is_controller

log = logging.getLogger(__name__)

KEEPALIVE_FACTOR: Final = 1.5
UNRELEASED_MAX: Final = 100
"""Messages of quality of service 2 that a client began and did not finish."""


class Hub(Protocol):
    """What a connection needs of the broker. Nothing here waits but ``room``."""

    async def room(self) -> None:
        """Return once what devices say can be taken: the controller keeps up."""

    def publish(self, sender: "Connection", message: Publish) -> None: ...

    def subscribe(self, connection: "Connection", asked: str, qos: int) -> int:
        """Return the quality of service that is granted, or `REFUSED`."""

    def unsubscribe(self, connection: "Connection", asked: str) -> None: ...

    def replay(self, connection: "Connection", asked: str, qos: int) -> None:
        """Send what is kept on the topics that ``asked`` matches."""


REFUSED: Final = 0x80


@dataclass(frozen=True, slots=True)
class Client:
    """Who was let in, and what it may."""

    identity: Identity
    rules: TopicRules


class Connection(BrokerProtocolHandler):  # type: ignore[misc]  # amqtt has no types
    """``polite``: it said goodbye, so that its will is not sent."""

    def __init__(
        self, plugins: PluginManager, client: Client, connect: Connect, wire: Wire, hub: Hub
    ) -> None:
        super().__init__(plugins)
        self.attach(_session(connect), wire, wire)
        self.name: Final = client.identity.name
        self.key: Final = client.identity.key
        self.ends_s: Final = client.identity.ends_s
        self.will: Final = connect.will
        self.rules: Final = client.rules
        self.polite = False
        self.is_controller: Final = is_controller(self.name)
        self.outbox: Final = Outbox(CONTROLLER if self.is_controller else DEVICE)
        self._wire, self._hub = wire, hub
        self._silence_max_s = connect.keepalive_s * KEEPALIVE_FACTOR or None
        self._unreleased: set[int] = set()
        self._pace = Pace(PACKETS_PER_S, BURST_PACKETS)

    async def run(self) -> None:
        """Serve the client until it goes, is cut off, or says what no client may say."""
        await self._send_packet(ConnackPacket.build(0, Code.ACCEPTED))
        sending = asyncio.create_task(self._send_waiting())
        try:
            await self._read_until_end()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def offer(self, message: Message, *, kept: bool = False) -> None:
        """Have a message sent; a client that does not keep up is cut off. What was ``kept`` has room always
        for the controller, which reads of every device; a device reads few topics, and could ask for them
        again and again."""
        if not self._wire.is_cut and not self.outbox.put(message, kept=kept and self.is_controller):
            log.warning("%s does not read what it is sent: cut off", self.name)
            self.cut()

    def cut(self) -> None:
        """End the connection at once. Safe to repeat."""
        self._wire.abort()

    async def stop(self) -> None:
        self.cut()

    async def _send_packet(self, packet: MQTTPacket) -> None:
        """Send, if the client is there still: what it said before it went is done in any case. amqtt's takes
        a cancelled task and a lost connection for something else."""
        with suppress(ConnectionError):
            async with self._write_lock:
                await packet.to_stream(self._wire)

    async def _read_until_end(self) -> None:
        try:
            while (frame := await self._wire.read_frame(self._silence_max_s)) is not None:
                await self._let_others_speak()
                packet = decode(frame)
                if isinstance(packet, Disconnect):
                    self.polite = True
                    return
                await self._take(packet)
        except Malformed as exc:
            log.warning("%s is cut off: %s", self.name, exc)
        except TimeoutError:
            log.info("%s has fallen silent", self.name)

    async def _let_others_speak(self) -> None:
        """Packets that came together are read without waiting: nobody else would have a turn meanwhile."""
        if self.is_controller:
            await asyncio.sleep(0)
        else:
            await self._pace.wait()

    async def _take(self, packet: Packet) -> None:
        match packet:
            case Publish():
                await self._take_publish(packet)
            case Subscribe():
                await self._take_subscribe(packet)
            case Unsubscribe():
                for asked in packet.filters:
                    self._hub.unsubscribe(self, asked)
                await self.mqtt_acknowledge_unsubscription(packet.packet_id)
            case Ack(kind=Kind.PUBREL):
                self._unreleased.discard(packet.packet_id)
                await self._send_packet(PubcompPacket.build(packet.packet_id))
            case Ack():
                self.outbox.acknowledge(packet.packet_id)
            case Ping():
                await self._send_packet(PingRespPacket.build())

    async def _take_publish(self, message: Publish) -> None:
        """Hand a message on, one of quality of service 2 once however often it comes."""
        if not self.is_controller:
            await self._hub.room()
        if message.qos < 2 or message.packet_id not in self._unreleased:
            self._hub.publish(self, message)
        if message.qos == 1:
            await self._send_packet(PubackPacket.build(message.packet_id))
        elif message.qos == 2:
            self._unreleased.add(message.packet_id)
            if len(self._unreleased) > UNRELEASED_MAX:
                raise Malformed(f"more than {UNRELEASED_MAX} messages are begun and not finished")
            await self._send_packet(PubrecPacket.build(message.packet_id))

    async def _take_subscribe(self, packet: Subscribe) -> None:
        granted = [(asked, self._hub.subscribe(self, asked, qos)) for asked, qos in packet.asked]
        await self.mqtt_acknowledge_subscription(packet.packet_id, [qos for _, qos in granted])
        for asked, qos in granted:
            if qos != REFUSED:
                self._hub.replay(self, asked, qos)

    async def _send_waiting(self) -> None:
        try:
            while True:
                message, packet_id = await self.outbox.get()
                await self._send_packet(
                    PublishPacket.build(
                        message.topic, message.payload, packet_id, False, message.qos, message.retain
                    )
                )
        except TimeoutError:
            log.warning("%s acknowledges nothing of what it is sent: cut off", self.name)
            self.cut()


def _session(connect: Connect) -> Session:
    """What amqtt keeps of a client. It ends with the connection: nothing is kept for one that comes back."""
    session = Session()
    session.client_id, session.clean_session = connect.client_id, True
    return session
