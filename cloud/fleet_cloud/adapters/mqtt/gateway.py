"""The controller at the broker, on paho-mqtt 2.

MQTT 5 first; a broker that does not speak it gets 3.1.1. Callbacks only put messages into the inbox.
Reconnecting is paho's, with its growing delay; subscriptions are data and applied on each connect.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fleet_cloud.adapters.mqtt.inbox import Inbox, Incoming
from fleet_cloud.errors import Unavailable
from fleet_cloud.services.ports import OutgoingMessage, TlsFiles
from fleet_cloud.tls import RenewedClientContext
from fleet_shared.topics import TO_CLOUD, Topics

log = logging.getLogger(__name__)

WAITING_MAX: Final = 5_000
PUBLISH_TIMEOUT_S: Final = 5.0
KEEPALIVE_S: Final = 30
RECONNECT_MAX_S: Final = 10


@dataclass(frozen=True, slots=True)
class BrokerEndpoint:
    """``tls``: whom the controller believes there and who it is; none for a broker without TLS."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    mqtt5: bool = True
    tls: TlsFiles | None = None


class Gateway:
    """``incoming`` is read by the ingest worker."""

    def __init__(self, endpoint: BrokerEndpoint, topics: Topics, client_id: str) -> None:
        self.incoming = Inbox(WAITING_MAX)
        self._endpoint, self._topics, self._client_id = endpoint, topics, client_id
        self._connected = threading.Event()
        self._settled = threading.Event()
        self._dropping = False
        self.announced: bytes | None = None
        """The release timestamp that the broker holds, also of a controller before this one."""
        self.connected_ms: int | None = None
        """Wall time since when everything that devices say is heard; none while the broker is away."""
        self._protocol = MQTTProtocolVersion.MQTTv5
        self._reason = "not connected yet"
        self._client: mqtt.Client | None = None
        self._listening: dict[str, Callable[[bytes], None]] = {}

    @property
    def status(self) -> str:
        """``connected``, or why not."""
        return "connected" if self._connected.is_set() else f"away: {self._reason}"

    def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Hand what comes on ``topic``, which is no device's, to ``heard`` and not to the inbox; to be told
        before `start`. ``heard`` must not wait: it is called by the client's thread."""
        self._listening[topic] = heard

    def start(self, timeout_s: float) -> None:
        """Connect; raise `Unavailable` (``broker.unreachable``) if the broker does not answer."""
        newest = (MQTTProtocolVersion.MQTTv5,) if self._endpoint.mqtt5 else ()
        for protocol in (*newest, MQTTProtocolVersion.MQTTv311):
            self._protocol = protocol
            if self._try(timeout_s / 2):
                return
        raise Unavailable(
            f"the broker {self._endpoint.host}:{self._endpoint.port} cannot be used: {self._reason}",
            hint="is it running, and are address, user and password right? see --broker",
            code="broker.unreachable",
        )

    def publish(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        """Publish all at QoS 1, then wait for the broker's word on each; tell which it has."""
        sent = [self.send(m.topic, m.payload, retain=m.retain) for m in messages]
        deadline = time.monotonic() + PUBLISH_TIMEOUT_S
        return [info is not None and _wait(info, deadline - time.monotonic()) for info in sent]

    def send(self, topic: str, payload: bytes, *, retain: bool) -> mqtt.MQTTMessageInfo | None:
        """Hand a message over without waiting; none while the broker is away."""
        client = self._client
        if client is None or not self._connected.is_set():
            return None
        info = client.publish(topic, payload, qos=1, retain=retain)
        return info if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.on_disconnect = None
            client.disconnect()
            client.loop_stop()

    def _try(self, timeout_s: float) -> bool:
        self._settled.clear()
        client = self._build()
        try:
            client.connect(self._endpoint.host, self._endpoint.port, keepalive=KEEPALIVE_S)
        except OSError as exc:
            self._reason = str(exc)
            return False
        self._client = client
        client.loop_start()
        self._settled.wait(timeout_s)
        if self._connected.is_set():
            return True
        self.close()
        return False

    def _build(self) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self._client_id, protocol=self._protocol)
        client.reconnect_delay_set(1, RECONNECT_MAX_S)
        client.max_inflight_messages_set(100)
        if self._endpoint.tls is not None:
            client.tls_set_context(RenewedClientContext.of(self._endpoint.tls))
        if self._endpoint.username:
            client.username_pw_set(self._endpoint.username, self._endpoint.password)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _on_connect(
        self,
        client: mqtt.Client,
        _data: Any,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._reason = str(reason)
            return
        own = (*(self._topics.every_device(channel) for channel in TO_CLOUD), self._topics.releases)
        client.subscribe([(one, 1) for one in (*own, *self._listening)])

    def _on_subscribe(
        self,
        _client: mqtt.Client,
        _data: Any,
        _id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        """Only now may anything be published: what an older connection left in flight is sent again
        before, so that nothing newer is overwritten by it."""
        if refused := [reason for reason in reasons if reason.is_failure]:
            self._reason = f"it refuses to let the controller read: {refused[0]}"
            log.error("the broker cannot be used: %s", self._reason)
            self._settled.set()
            return
        self.connected_ms = self.connected_ms or time.time_ns() // 1_000_000
        self._connected.set()
        self._settled.set()
        self._put(Incoming(None, b""))

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: Any,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self._connected.is_set():
            log.warning("the broker is away: %s", reason)
        self._reason = str(reason)
        self._connected.clear()
        self.connected_ms = None
        self._settled.set()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if message.topic == self._topics.releases:
            self.announced = bytes(message.payload)
        elif heard := self._listening.get(message.topic):
            heard(bytes(message.payload))
        else:
            self._put(Incoming(message.topic, bytes(message.payload), message.retain))

    def _put(self, incoming: Incoming) -> None:
        dropped = not self.incoming.put(incoming)
        if dropped and not self._dropping:
            log.warning("too many messages wait: some are dropped, and devices send them again")
        self._dropping = dropped


def _wait(info: mqtt.MQTTMessageInfo, timeout_s: float) -> bool:
    try:
        info.wait_for_publish(max(0.0, timeout_s))
    except (RuntimeError, ValueError):
        return False
    return info.is_published()
