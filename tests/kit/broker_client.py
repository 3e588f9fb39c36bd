"""A client with a certificate, at any broker: says whether the broker let it do what it asked for."""

import queue
import socket
import ssl
from types import TracebackType

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from typing_extensions import Self

from fleet_cloud.services.ports import TlsFiles
from tests.kit.certificates import LOOPBACK

TIMEOUT_S = 20.0


class Refused(Exception):
    """The broker, or TLS, does not let the client in."""


class BrokerClient:
    """Connected when the block begins; raises `Refused`. It never connects a second time by itself.

    Without ``certificate`` it shows none."""

    def __init__(
        self,
        port: int,
        tls: TlsFiles,
        client_id: str,
        *,
        username: str | None = None,
        will: tuple[str, bytes] | None = None,
        mqtt5: bool = False,
        certificate: bool = True,
    ) -> None:
        self._port, self._mqtt5 = port, mqtt5
        self._words: queue.Queue[tuple[str, object]] = queue.Queue()
        """What the broker said: connected, granted, acknowledged, or that it is gone."""
        self._messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._gone = False
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if mqtt5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        context = ssl.create_default_context(cafile=str(tls.authorities))
        if certificate:
            context.load_cert_chain(tls.certificate, tls.key)
        client.tls_set_context(context)
        if username is not None:
            client.username_pw_set(username, "x")
        if will is not None:
            client.will_set(*will, qos=1, retain=True)
        client.on_socket_open = _speak_at_once
        client.on_connect = lambda _c, _d, _f, reason, _p: self._words.put(("connected", reason))
        client.on_subscribe = lambda _c, _d, _i, reasons, _p: self._words.put(("granted", reasons[0]))
        client.on_publish = lambda _c, _d, _i, reason, _p: self._words.put(("acknowledged", reason))
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message

    def __enter__(self) -> Self:
        try:
            self._client.connect(LOOPBACK, self._port, keepalive=30)
        except (OSError, ValueError) as exc:
            raise Refused(str(exc)) from exc
        self._client.loop_start()
        reason = self._hear("connected")
        if reason is None or reason.is_failure:
            self._end()
            raise Refused(str(reason))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Tell whether the broker took it; one that speaks MQTT 3.1.1 has no word for no, and says that it
        took what it drops."""
        if self._gone:
            return False
        self._client.publish(topic, payload, qos=1, retain=retain)
        reason = self._hear("acknowledged")
        return reason is not None and not reason.is_failure

    def subscribe(self, topic: str) -> bool:
        """Tell whether the broker granted it."""
        if self._gone:
            return False
        self._client.subscribe(topic, 1)
        reason = self._hear("granted")
        return reason is not None and not reason.is_failure

    def get(self, timeout_s: float = TIMEOUT_S) -> tuple[str, bytes]:
        return self._messages.get(timeout=timeout_s)

    def is_connected(self) -> bool:
        return not self._gone and self._client.is_connected()

    def cut(self) -> None:
        """End the connection without a word, as a device without power does: the will is due."""
        found = self._client.socket()
        assert isinstance(found, socket.socket)
        found.shutdown(socket.SHUT_RDWR)
        self.wait_until_gone()

    def wait_until_gone(self) -> None:
        while not self._gone and self._words.get(timeout=TIMEOUT_S)[0] != "gone":
            pass

    def _end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, word: str) -> ReasonCode | None:
        """Return the broker's next word of this kind; none when it went away instead."""
        while True:
            found, reason = self._words.get(timeout=TIMEOUT_S)
            if found == word:
                assert isinstance(reason, ReasonCode)
                return reason
            if found == "gone":
                return None

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: object,
        _flags: mqtt.DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._gone = True
        self._words.put(("gone", None))

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self._messages.put((message.topic, bytes(message.payload)))


def _speak_at_once(_client: mqtt.Client, _data: object, connection: object) -> None:
    """Small messages wait for nobody's acknowledgement: a list of hundreds of attacks takes seconds."""
    assert isinstance(connection, socket.socket)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
