"""amqtt's broker with what it gets wrong closed; each hole has a test in tests/cloud/adapters/broker.

What amqtt does, and what is done here instead:

- client certificates are optional, and a client without one is taken for a live session's: the certificate is
  required, and identity belongs to the connection (`identity`);
- sessions are deleted, subscriptions taken over and wills stored before anybody is asked: `admission` decides
  first, and a refused CONNECT is answered, closed and forgotten;
- each connect sends what is kept for everybody's filters, and wills pass the rules: `replay` sends for one
  filter of one client, and every message goes through `publish`;
- two connections of one client stay, the older takes the newer's subscriptions with it: the newest has the
  name (`_enter`), and what an older one still says is not heard;
- tasks and messages pile up behind a slow reader: messages are handed over without waiting, into bounded
  outboxes (`_spread`);
- a session waits for its client to come back, with what it missed: here it ends with its connection. Devices
  start clean, and find the pictures.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from amqtt.broker import Broker, RetainedApplicationMessage
from amqtt.contexts import BrokerConfig
from amqtt.mqtt.connack import ConnackPacket

from fleet_cloud.adapters.broker.admission import Code, Refusal, judge
from fleet_cloud.adapters.broker.connection import REFUSED, Client, Connection
from fleet_cloud.adapters.broker.identity import Identity, read_identity
from fleet_cloud.adapters.broker.notices import Notices
from fleet_cloud.adapters.broker.outbox import Message
from fleet_cloud.adapters.broker.packets import Connect, Malformed, OtherVersion, Publish, decode_connect
from fleet_cloud.adapters.broker.subscriptions import Subscriptions
from fleet_cloud.adapters.broker.wire import CONNECT_BYTES, Wire
from fleet_cloud.domain.topic_rules import matches, rules_of
from fleet_shared.names import DeviceId, Digest
from fleet_shared.topics import Topics

CONNECT_TIMEOUT_S: Final = 10.0
SUBSCRIPTIONS_MAX: Final = 64
QOS_MAX: Final = 1
"""Granted to subscribers; more would need sessions that outlive their connection."""


class FleetBroker(Broker):  # type: ignore[misc]  # amqtt has no types
    """Lives in one event loop; all but ``serve`` returns at once."""

    def __init__(self, topics: Topics) -> None:
        super().__init__(BrokerConfig.from_dict({"listeners": {"default": {}}, "plugins": {}}))
        self._topics = topics
        self._known: dict[DeviceId, Digest] | None = None
        self._connections: dict[str, Connection] = {}
        self._table: Subscriptions[Connection] = Subscriptions()
        self._kept: dict[str, RetainedApplicationMessage] = self._retained_messages
        self._notices = Notices()

    async def _start_listeners(self) -> None:
        """Those who listen call `serve`."""

    async def serve(self, wire: Wire, admitted: Callable[[], None]) -> None:
        """Serve one connection whose TLS handshake is done; ``admitted`` is called when it is let in."""
        connection = await self._admit(wire)
        if connection is None:
            return
        admitted()
        life_s = connection.ends_s - time.time()
        ends = asyncio.get_running_loop().call_later(life_s, connection.cut)
        try:
            await connection.run()
        finally:
            ends.cancel()
            self._release(connection)

    async def shutdown(self) -> None:
        """End every connection, and send no wills: nobody is there to hear them."""
        for connection in tuple(self._connections.values()):
            connection.polite = True
            connection.cut()
        await super().shutdown()

    # -- which devices may come in

    def sync(self, known: Mapping[DeviceId, Digest]) -> None:
        """Let these devices in, and cut off those who are not among them, or have another key."""
        self._known = dict(known)
        for name, connection in tuple(self._connections.items()):
            if not connection.is_controller and known.get(DeviceId(name)) != connection.key:
                self._cut(name)

    def admit(self, device: DeviceId, key: Digest) -> None:
        """Let one more in; a session with another key ends."""
        self._known = {**(self._known or {}), device: key}
        if (connection := self._connections.get(device)) and connection.key != key:
            self._cut(device)

    def revoke(self, device: DeviceId) -> None:
        """Let a device in no more; its session ends now. Its will says that it is gone."""
        if self._known is not None:
            self._known.pop(device, None)
        self._cut(device)

    # -- what connections ask for

    async def room(self) -> None:
        for connection in tuple(self._connections.values()):
            if connection.is_controller:
                await connection.outbox.wait_until_roomy()

    def publish(self, sender: Connection, message: Publish) -> None:
        """Hand a message on, unless the rules or a newer connection of the same client forbid it."""
        if self._connections.get(sender.name) is not sender:
            return
        if not sender.rules.may_publish(message.topic, retain=message.retain):
            self._notices.say(f"{sender.name} may not publish on {message.topic[:200]!r}: dropped")
            return
        self._spread(message)

    def subscribe(self, connection: Connection, asked: str, qos: int) -> int:
        if self._connections.get(connection.name) is not connection:
            return REFUSED
        if not connection.rules.may_subscribe(asked):
            self._notices.say(f"{connection.name} may not read {asked[:200]!r}: refused")
            return REFUSED
        is_new = not self._table.holds(connection, asked)
        if is_new and self._table.count(connection) >= SUBSCRIPTIONS_MAX:
            return REFUSED
        granted = min(qos, QOS_MAX)
        self._table.add(connection, asked, granted)
        return granted

    def unsubscribe(self, connection: Connection, asked: str) -> None:
        self._table.remove(connection, asked)

    def replay(self, connection: Connection, asked: str, qos: int) -> None:
        wild = "+" in asked or "#" in asked
        topics = [topic for topic in self._kept if matches(asked, topic)] if wild else [asked]
        for topic in topics:
            kept = self._kept.get(topic)
            if kept is not None and connection.rules.may_read(topic):
                message = Message(topic, kept.data, min(qos, kept.qos), retain=True)
                connection.offer(message, kept=True)

    # -- inside

    async def _admit(self, wire: Wire) -> Connection | None:
        """Read the CONNECT and decide; nothing that is shared is touched before."""
        identity = read_identity(wire.get_ssl_info())
        connect = await self._read_connect(wire, identity)
        if connect is None:
            return None
        rules = rules_of(self._topics, identity.name if identity else "")
        refusal = judge(connect, identity, rules, self._known)
        if refusal is not None or identity is None:
            await self._refuse(wire, identity, refusal)
            return None
        return self._enter(Connection(self.plugins_manager, Client(identity, rules), connect, wire, self))

    async def _read_connect(self, wire: Wire, identity: Identity | None) -> Connect | None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                frame = await wire.read_frame(None, CONNECT_BYTES)
            return None if frame is None else decode_connect(frame)
        except OtherVersion:
            await self._refuse(wire, identity, Refusal(Code.VERSION, "it is not MQTT 3.1.1"))
        except (Malformed, TimeoutError) as exc:
            self._notices.say(f"{_describe(wire, identity)} is cut off: {str(exc) or 'no CONNECT in time'}")
            wire.abort()
        return None

    async def _refuse(self, wire: Wire, identity: Identity | None, refusal: Refusal | None) -> None:
        refusal = refusal or Refusal(Code.NOT_AUTHORIZED, "no identity")
        if refusal.code is not Code.VERSION:
            self._notices.say(f"{_describe(wire, identity)} is refused: {refusal.reason}")
        await ConnackPacket.build(0, refusal.code).to_stream(wire)
        await wire.close()

    def _enter(self, connection: Connection) -> Connection:
        """Give the name to the newest connection. The older one's will comes first, and is old news then."""
        self._cut(connection.name)
        self._connections[connection.name] = connection
        return connection

    def _cut(self, name: str) -> None:
        if (connection := self._connections.get(name)) is not None:
            self._release(connection)
            connection.cut()

    def _release(self, connection: Connection) -> None:
        """Take name and subscriptions from a connection that has them still, and send its will."""
        if self._connections.get(connection.name) is not connection:
            return
        will = connection.will
        del self._connections[connection.name]
        self._table.remove_all(connection)
        connection.outbox.close()
        if will is not None and not connection.polite:
            self._spread(Publish(will.topic, will.payload, will.qos, will.retain, 0))

    def _spread(self, message: Publish) -> None:
        """Keep a message if it says so, and put it into the outbox of each who hears it and may."""
        if message.retain:
            self._keep(message)
        for connection, granted in self._table.find(message.topic).items():
            if connection.rules.may_read(message.topic):
                qos = min(message.qos, granted)
                connection.offer(Message(message.topic, message.payload, qos, retain=False))

    def _keep(self, message: Publish) -> None:
        if message.payload:
            self._kept[message.topic] = RetainedApplicationMessage(
                None, message.topic, message.payload, message.qos
            )
        else:
            self._kept.pop(message.topic, None)


def _describe(wire: Wire, identity: Identity | None) -> str:
    peer = wire.get_peer_info()
    return f"{identity.name if identity else 'a client'} at {peer[0] if peer else 'an unknown address'}"
