"""What clients send, decoded strictly (MQTT 3.1.1, sections 2 and 3). Pure: bytes in, values out.

amqtt's own decoder reads on beyond the end of a packet when a length inside of it says so: a CONNECT of MQTT
5 with a will is met with silence. It takes text that is not UTF-8 for another text. Here nothing is read
beyond the packet, and what is not exactly well-formed is `Malformed`: its sender is cut off.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from fleet_cloud.domain.topic_rules import is_filter

LEVEL: Final = 4
"""MQTT 3.1.1; the only one that the embedded broker speaks."""

TOPIC_BYTES: Final = 512
FILTERS_PER_PACKET: Final = 64


class Kind(IntEnum):
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class Malformed(Exception):
    """A packet that no client may send."""


class OtherVersion(Exception):
    """A CONNECT of another version of MQTT: answered, and that is all."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One packet as it came: kind, the four bits beside it, and all that follows the length."""

    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Connect:
    client_id: str
    keepalive_s: int
    clean: bool
    will: Will | None
    username: str | None


@dataclass(frozen=True, slots=True)
class Publish:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """``asked``: filters, each with the highest quality of service. A filter may be wrong: it is refused,
    the others are not."""

    packet_id: int
    asked: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ack:
    """PUBACK, PUBREC, PUBREL or PUBCOMP."""

    kind: Kind
    packet_id: int


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class Disconnect:
    pass


Packet = Publish | Subscribe | Unsubscribe | Ack | Ping | Disconnect
"""What a client may send after its CONNECT."""

_FLAGS: Final[dict[int, int]] = {
    Kind.CONNECT: 0, Kind.PUBACK: 0, Kind.PUBREC: 0, Kind.PUBREL: 2, Kind.PUBCOMP: 0, Kind.SUBSCRIBE: 2,
    Kind.UNSUBSCRIBE: 2, Kind.PINGREQ: 0, Kind.DISCONNECT: 0,
}  # fmt: skip


def decode_connect(frame: Frame) -> Connect:
    """Return the first packet of a connection; raise `Malformed`, or `OtherVersion` before anything that
    only another version explains is looked at."""
    if frame.kind != Kind.CONNECT or frame.flags:
        raise Malformed("the first packet is no CONNECT")
    cursor = _Cursor(frame.body)
    name, level = cursor.text(), cursor.byte()
    if name not in ("MQTT", "MQIsdp"):
        raise Malformed("the protocol is not MQTT")
    if (name, level) != ("MQTT", LEVEL):
        raise OtherVersion
    flags, keepalive_s = cursor.byte(), cursor.number()
    if flags & 1 or (flags & 0x40 and not flags & 0x80):
        raise Malformed("CONNECT has flags that contradict each other")
    client_id = cursor.text()
    will = _decode_will(flags, cursor)
    username = cursor.text() if flags & 0x80 else None
    if flags & 0x40:
        cursor.data()  # a password proves nothing here: the certificate does
    cursor.end()
    return Connect(client_id, keepalive_s, bool(flags & 2), will, username)


def decode(frame: Frame) -> Packet:
    """Return a packet of a client that is connected; raise `Malformed`."""
    if frame.kind == Kind.PUBLISH:
        return _decode_publish(frame)
    if frame.kind == Kind.CONNECT or frame.flags != _FLAGS.get(frame.kind):
        raise Malformed(f"packet {frame.kind} with flags {frame.flags} is none that a client sends here")
    cursor = _Cursor(frame.body)
    packet = _decode_other(Kind(frame.kind), cursor)
    cursor.end()
    return packet


def _decode_other(kind: Kind, cursor: "_Cursor") -> Packet:
    match kind:
        case Kind.SUBSCRIBE:
            return Subscribe(cursor.packet_id(), tuple(_decode_asked(cursor)))
        case Kind.UNSUBSCRIBE:
            return Unsubscribe(cursor.packet_id(), tuple(_decode_filters(cursor)))
        case Kind.PINGREQ:
            return Ping()
        case Kind.DISCONNECT:
            return Disconnect()
        case _:
            return Ack(kind, cursor.packet_id())


def _decode_will(flags: int, cursor: "_Cursor") -> Will | None:
    qos, retain = flags >> 3 & 3, bool(flags & 0x20)
    if not flags & 4:
        if qos or retain:
            raise Malformed("CONNECT describes a will that it has not")
        return None
    if qos > 2:
        raise Malformed("the will has a quality of service that there is not")
    return Will(cursor.text(), cursor.data(), qos, retain)


def _decode_publish(frame: Frame) -> Publish:
    cursor = _Cursor(frame.body)
    qos = frame.flags >> 1 & 3
    if qos > 2 or (frame.flags & 8 and not qos):
        raise Malformed("PUBLISH has flags that contradict each other")
    topic = cursor.text()
    if not topic or "+" in topic or "#" in topic:
        raise Malformed("PUBLISH on what is not one topic")
    if len(topic.encode()) > TOPIC_BYTES:
        raise Malformed(f"a topic is longer than {TOPIC_BYTES} bytes")
    packet_id = cursor.packet_id() if qos else 0
    return Publish(topic, cursor.rest(), qos, bool(frame.flags & 1), packet_id)


def _decode_asked(cursor: "_Cursor") -> list[tuple[str, int]]:
    asked: list[tuple[str, int]] = []
    while cursor.is_left(asked):
        text, qos = cursor.text(), cursor.byte()
        if qos > 2:
            raise Malformed("SUBSCRIBE asks for a quality of service that there is not")
        asked.append((text if len(text.encode()) <= TOPIC_BYTES and is_filter(text) else "", qos))
    return asked


def _decode_filters(cursor: "_Cursor") -> list[str]:
    filters: list[str] = []
    while cursor.is_left(filters):
        filters.append(cursor.text())
    return filters


class _Cursor:
    """Reads the fields of a body from its beginning to its end."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._body):
            raise Malformed("a packet ends within one of its fields")
        taken, self._at = self._body[self._at : end], end
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def packet_id(self) -> int:
        if number := self.number():
            return number
        raise Malformed("a packet that needs a number has none")

    def data(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            text = self.data().decode()
        except UnicodeDecodeError as exc:
            raise Malformed("a text is not UTF-8") from exc
        if "\0" in text:
            raise Malformed("a text holds a NUL")
        return text

    def rest(self) -> bytes:
        return self.take(len(self._body) - self._at)

    def is_left(self, found: list[str] | list[tuple[str, int]]) -> bool:
        """Tell whether a list goes on; at least one entry, and not more than the bound."""
        if len(found) > FILTERS_PER_PACKET:
            raise Malformed(f"a packet names more than {FILTERS_PER_PACKET} filters")
        return not found or self._at < len(self._body)

    def end(self) -> None:
        if self._at != len(self._body):
            raise Malformed("a packet goes on after its last field")
