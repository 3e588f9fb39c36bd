"""Packets that no client may send are told from those that may be, byte for byte."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_cloud.adapters.broker.packets import (
    FILTERS_PER_PACKET,
    TOPIC_BYTES,
    Ack,
    Connect,
    Disconnect,
    Frame,
    Kind,
    Malformed,
    OtherVersion,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
    Will,
    decode,
    decode_connect,
)
from tests.kit.secure_broker import text

HEAD = text("MQTT") + b"\4"
NUMBER = b"\0\7"


def connect(body: bytes, flags: int = 0) -> Frame:
    return Frame(Kind.CONNECT, flags, body)


def test_a_connect_says_all_that_it_can() -> None:
    body = HEAD + b"\xee\0\x3c" + text("pi-1") + text("t") + text(b"gone") + text("pi-1") + text("secret")
    assert decode_connect(connect(body)) == Connect("pi-1", 60, True, Will("t", b"gone", 1, True), "pi-1")
    assert decode_connect(connect(HEAD + b"\0\0\0" + text(""))) == Connect("", 0, False, None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"", HEAD, HEAD + b"\2", HEAD + b"\2\0\x3c", HEAD + b"\2\0\x3c\0", HEAD + b"\2\0\x3c\0\5pi-1",
        HEAD + b"\3\0\x3c" + text("pi-1"), HEAD + b"\x42\0\x3c" + text("pi-1") + text("password"),
        HEAD + b"\x22\0\x3c" + text("pi-1"), HEAD + b"\x0a\0\x3c" + text("pi-1"),
        HEAD + b"\x1e\0\x3c" + text("pi-1") + text("t") + text("x"),
        HEAD + b"\6\0\x3c" + text("pi-1") + text("t"),
        HEAD + b"\2\0\x3c" + text("pi-1") + b"x", HEAD + b"\2\0\x3c" + text(b"\xff\xfe"),
        HEAD + b"\2\0\x3c" + text("pi\0-1"), text("MQTX") + b"\4\2\0\x3c" + text("pi-1"),
        HEAD + b"\x82\0\x3c" + text("pi-1"), HEAD + b"\2\0\x3c\xff\xffpi-1",
    ],
)  # fmt: skip
def test_a_connect_that_is_not_well_formed(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode_connect(connect(body))


def test_the_first_packet_is_a_connect_and_the_later_ones_are_not() -> None:
    body = HEAD + b"\2\0\x3c" + text("pi-1")
    for frame in (Frame(Kind.PUBLISH, 0, body), connect(body, flags=1)):
        with pytest.raises(Malformed):
            decode_connect(frame)
    with pytest.raises(Malformed):
        decode(connect(body))


@pytest.mark.parametrize("start", [b"\0\4MQTT\5", b"\0\6MQIsdp\3", b"\0\4MQTT\3", b"\0\4MQTT\x84"])
def test_another_version_is_known_by_its_first_bytes(start: bytes) -> None:
    with pytest.raises(OtherVersion):
        decode_connect(connect(start))


def test_what_a_connected_client_may_send() -> None:
    assert decode(Frame(Kind.PUBLISH, 0, text("a/b") + b"x")) == Publish("a/b", b"x", 0, False, 0)
    assert decode(Frame(Kind.PUBLISH, 0b1101, text("a") + NUMBER)) == Publish("a", b"", 2, True, 7)
    asked = NUMBER + text("a/+") + b"\1" + text("a+") + b"\0" + text("x" * 513) + b"\0"
    assert decode(Frame(Kind.SUBSCRIBE, 2, asked)) == Subscribe(7, (("a/+", 1), ("", 0), ("", 0)))
    assert decode(Frame(Kind.UNSUBSCRIBE, 2, NUMBER + text("a"))) == Unsubscribe(7, ("a",))
    assert decode(Frame(Kind.PUBACK, 0, NUMBER)) == Ack(Kind.PUBACK, 7)
    assert decode(Frame(Kind.PUBREL, 2, NUMBER)) == Ack(Kind.PUBREL, 7)
    assert decode(Frame(Kind.PINGREQ, 0, b"")) == Ping()
    assert decode(Frame(Kind.DISCONNECT, 0, b"")) == Disconnect()


@pytest.mark.parametrize(
    ("kind", "flags", "body"),
    [
        (Kind.PUBLISH, 0, b""), (Kind.PUBLISH, 0, text("")), (Kind.PUBLISH, 0, text("a/#")),
        (Kind.PUBLISH, 0, text("+")), (Kind.PUBLISH, 6, text("a") + NUMBER), (Kind.PUBLISH, 8, text("a")),
        (Kind.PUBLISH, 2, text("a")), (Kind.PUBLISH, 2, text("a") + b"\0\0"), (Kind.PUBLISH, 0, b"\0\5a"),
        (Kind.PUBLISH, 0, text(b"\xff")), (Kind.PUBLISH, 0, text("a\0")),
        (Kind.PUBLISH, 0, text("x" * (TOPIC_BYTES + 1))),
        (Kind.SUBSCRIBE, 0, NUMBER + text("a") + b"\0"), (Kind.SUBSCRIBE, 2, NUMBER),
        (Kind.SUBSCRIBE, 2, b"\0\0" + text("a") + b"\0"), (Kind.SUBSCRIBE, 2, NUMBER + text("a") + b"\3"),
        (Kind.SUBSCRIBE, 2, NUMBER + text("a")),
        (Kind.SUBSCRIBE, 2, NUMBER + (text("a") + b"\0") * (FILTERS_PER_PACKET + 1)),
        (Kind.UNSUBSCRIBE, 2, NUMBER), (Kind.UNSUBSCRIBE, 0, NUMBER + text("a")),
        (Kind.UNSUBSCRIBE, 2, NUMBER + text("a") * (FILTERS_PER_PACKET + 1)),
        (Kind.PUBACK, 0, b"\0"), (Kind.PUBACK, 0, b"\0\0"), (Kind.PUBACK, 0, NUMBER + b"x"),
        (Kind.PUBACK, 1, NUMBER), (Kind.PUBREL, 0, NUMBER), (Kind.PINGREQ, 0, b"x"), (Kind.PINGREQ, 2, b""),
        (Kind.DISCONNECT, 0, b"x"), (Kind.CONNACK, 0, b"\0\0"), (Kind.SUBACK, 0, NUMBER + b"\0"),
        (Kind.UNSUBACK, 0, NUMBER), (Kind.PINGRESP, 0, b""), (0, 0, b""), (15, 0, b""),
    ],
)  # fmt: skip
def test_what_no_client_may_send(kind: int, flags: int, body: bytes) -> None:
    with pytest.raises(Malformed):
        decode(Frame(kind, flags, body))


def test_as_many_filters_as_one_packet_may_name() -> None:
    frame = Frame(Kind.SUBSCRIBE, 2, NUMBER + (text("a") + b"\0") * FILTERS_PER_PACKET)
    packet = decode(frame)
    assert isinstance(packet, Subscribe)
    assert len(packet.asked) == FILTERS_PER_PACKET


@settings(max_examples=300)
@given(st.integers(0, 15), st.integers(0, 15), st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_malformed_and_nothing_else(kind: int, flags: int, body: bytes) -> None:
    with suppress(Malformed):
        decode(Frame(kind, flags, body))
    with suppress(Malformed, OtherVersion):
        decode_connect(connect(HEAD + body))
