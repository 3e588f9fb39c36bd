"""The embedded broker with certificates, polite clients (paho) and one that says what it likes."""

import queue
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from typing_extensions import Self

from fleet_cloud.adapters.broker.embedded import EmbeddedBroker
from fleet_cloud.services.ports import TlsFiles
from fleet_shared.names import DeviceId
from fleet_shared.topics import Topics
from tests.kit.certificates import LOOPBACK, Party, TestAuthority

TIMEOUT_S = 20.0

PI_1, PI_2 = "fleet/v1/devices/pi-1", "fleet/v1/devices/pi-2"
CONNACK_OK = bytes([0x20, 2, 0, 0])


@dataclass
class Site:
    """A broker, its authority and its devices ``pi-1`` and ``pi-2``, with the controller ``ctl-1``."""

    folder: Path
    authority: TestAuthority
    server: Party
    broker: EmbeddedBroker
    parties: dict[str, Party] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return self.broker.port

    def add(self, name: str, **options: Any) -> Party:
        """Issue a certificate; the broker is told of a device."""
        party = self.parties[name] = self.authority.issue(name, **options)
        if not name.startswith("ctl-"):
            self.broker.admit(DeviceId(name), party.key_sha256)
        return party

    def client(self, name: str, **options: Any) -> "Client":
        return Client(self.port, self.parties[name].tls, name, **options)

    def raw(self, name: str) -> "RawClient":
        return RawClient(self.port, self.parties[name].tls)


@contextmanager
def secure_site(folder: Path) -> Iterator[Site]:
    authority = TestAuthority(folder / "ca")
    server = authority.issue("broker", hosts=[LOOPBACK, "localhost"])
    broker = EmbeddedBroker(LOOPBACK, 0, Topics(), server.tls)
    try:
        site = Site(folder, authority, server, broker)
        broker.sync([])
        for name in ("pi-1", "pi-2", "ctl-1"):
            site.add(name)
        yield site
    finally:
        broker.close()


class Client:
    """A client as paho makes it; connected when the block begins. ``connack``: the broker's word."""

    def __init__(
        self,
        port: int,
        tls: TlsFiles,
        client_id: str,
        subscribe: Sequence[tuple[str, int]] = (),
        will: tuple[str, bytes] | None = None,
        will_retain: bool = False,
        username: str | None = None,
        keepalive_s: int = 60,
    ) -> None:
        self.messages: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self.connack: queue.Queue[int] = queue.Queue()
        self.granted: queue.Queue[list[int]] = queue.Queue()
        self.gone: queue.Queue[None] = queue.Queue()
        self._port, self._subscribe, self._keepalive_s = port, subscribe, keepalive_s
        self.mqtt = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.tls_set_context(client_context(tls))
        if will is not None:
            client.will_set(*will, qos=1, retain=will_retain)
        if username is not None:
            client.username_pw_set(username)
        client.on_connect = lambda _client, _data, _flags, reason, _properties: self.connack.put(reason.value)
        client.on_subscribe = self._on_subscribe
        client.on_message = lambda _client, _data, message: self.messages.put(message)
        client.on_disconnect = lambda *_: self.gone.put(None)

    def __enter__(self) -> Self:
        self.connect()
        assert self.connack.get(timeout=TIMEOUT_S) == 0
        if self._subscribe:
            self.subscribe(*self._subscribe)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def connect(self) -> None:
        self.mqtt.connect(LOOPBACK, self._port, keepalive=self._keepalive_s)
        self.mqtt.loop_start()

    def close(self) -> None:
        self.mqtt.disconnect()
        self.mqtt.loop_stop()

    def subscribe(self, *asked: tuple[str, int]) -> list[int]:
        """Return the return codes: what is granted, 0x80 for what is refused."""
        self.mqtt.subscribe(list(asked))
        return self.granted.get(timeout=TIMEOUT_S)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Return once the broker has taken it, whatever it does with it."""
        self.mqtt.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(TIMEOUT_S)

    def get(self, timeout_s: float = TIMEOUT_S) -> tuple[str, bytes]:
        message = self.messages.get(timeout=timeout_s)
        return message.topic, bytes(message.payload)

    def wait_until_gone(self, timeout_s: float = TIMEOUT_S) -> None:
        self.gone.get(timeout=timeout_s)

    def is_alive(self, topic: str, payload: bytes, hears: "Client") -> bool:
        """Tell whether what it says is still heard by another."""
        self.publish(topic, payload)
        while True:
            if hears.get() == (topic, payload):
                return True

    def _on_subscribe(self, _client: Any, _data: Any, _id: int, reasons: list[Any], _properties: Any) -> None:
        self.granted.put([reason.value for reason in reasons])


class RawClient:
    """Bytes over TLS, as rude as a test needs."""

    def __init__(
        self, port: int, tls: TlsFiles | ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> None:
        context = tls if isinstance(tls, ssl.SSLContext) else client_context(tls)
        plain = socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_S)
        try:
            self.socket = context.wrap_socket(plain, server_hostname=LOOPBACK, session=session)
        except OSError:
            plain.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, *packets: bytes) -> None:
        self.socket.sendall(b"".join(packets))

    def read(self, count: int) -> bytes:
        """Return the next bytes; less when the broker closed."""
        found = b""
        while len(found) < count:
            try:
                part = self.socket.recv(count - len(found))
            except (ConnectionError, ssl.SSLError):
                break
            if not part:
                break
            found += part
        return found

    def is_closed(self) -> bool:
        """Wait until the broker closes; what comes before is dropped."""
        while self.read(65_536):
            pass
        return True


def client_context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.authorities))
    context.load_cert_chain(tls.certificate, tls.key)
    return context


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def packet(first: int, body: bytes = b"") -> bytes:
    length, head = len(body), bytearray([first])
    while True:
        length, byte = divmod(length, 128)
        head.append(byte | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def connect_packet(
    client_id: str,
    *,
    level: int = 4,
    flags: int = 2,
    keepalive_s: int = 60,
    more: bytes = b"",
    name: str = "MQTT",
) -> bytes:
    head = text(name) + bytes([level, flags]) + keepalive_s.to_bytes(2, "big")
    return packet(0x10, head + text(client_id) + more)


def subscribe_packet(packet_id: int, *filters: tuple[str, int]) -> bytes:
    return packet(
        0x82, packet_id.to_bytes(2, "big") + b"".join(text(asked) + bytes([qos]) for asked, qos in filters)
    )


def publish_packet(topic: str | bytes, payload: bytes, *, flags: int = 0, packet_id: int = 0) -> bytes:
    number = packet_id.to_bytes(2, "big") if packet_id else b""
    return packet(0x30 | flags, text(topic) + number + payload)
