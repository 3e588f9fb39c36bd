"""What somebody can do to the broker with bytes, silence and numbers: nothing that others notice."""

import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from fleet_cloud.adapters.broker import broker, connection, listener, outbox, wire
from fleet_cloud.adapters.broker.broker import SUBSCRIPTIONS_MAX
from fleet_cloud.adapters.broker.connection import UNRELEASED_MAX
from fleet_cloud.adapters.broker.outbox import Bounds
from fleet_cloud.adapters.broker.packets import FILTERS_PER_PACKET
from fleet_cloud.adapters.broker.wire import CONNECT_BYTES, PACKET_BYTES
from fleet_shared.limits import PART_BYTES
from tests.kit.certificates import LOOPBACK
from tests.kit.secure_broker import (
    CONNACK_OK,
    PI_1,
    PI_2,
    RawClient,
    Site,
    connect_packet,
    packet,
    publish_packet,
    subscribe_packet,
    text,
)
from tests.kit.waiting import wait_for

FUZZ_CONNECTIONS = 100


@contextmanager
def unharmed(site: Site) -> Iterator[None]:
    """Whatever happens in the block, the session of another device goes on and new ones begin."""
    with (
        site.client("ctl-1", subscribe=[("fleet/v1/devices/+/presence", 1)]) as controller,
        site.client("pi-2", subscribe=[(f"{PI_2}/desired", 1)]) as live,
    ):
        yield
        assert live.is_alive(f"{PI_2}/presence", b"here", controller)
        controller.publish(f"{PI_2}/desired", b"down")
        assert live.get() == (f"{PI_2}/desired", b"down")
        with site.client("pi-1") as fresh:
            assert fresh.is_alive(f"{PI_1}/presence", b"new", controller)


def test_the_largest_message_passes_whole_and_one_that_is_longer_is_refused_by_its_head(site: Site) -> None:
    largest = b"x" * (PACKET_BYTES - 2 - len(f"{PI_1}/telemetry"))
    with site.client("ctl-1", subscribe=[(f"{PI_1}/telemetry", 0)]) as controller, site.raw("pi-1") as device:
        device.send(connect_packet("pi-1"), publish_packet(f"{PI_1}/telemetry", largest))
        assert controller.get() == (f"{PI_1}/telemetry", largest)
        length = PACKET_BYTES + 1
        device.send(bytes([0x30, length & 127 | 128, length >> 7 & 127 | 128, length >> 14]))
        assert device.read(5) == CONNACK_OK  # and the end, with not one byte of the body sent


@pytest.mark.parametrize(
    "head", [b"\x30\xff\xff\xff\x7f", b"\x30\xff\xff\xff\xff\x7f", b"\x30\x80\x80\x80\x80\x01"]
)
def test_a_length_beyond_the_bound_or_without_end_cuts_off(site: Site, head: bytes) -> None:
    with unharmed(site), site.raw("pi-1") as device:
        device.send(connect_packet("pi-1"), head)
        assert device.read(5) == CONNACK_OK


def test_a_connect_has_a_bound_of_its_own(site: Site) -> None:
    with unharmed(site), site.raw("pi-1") as device:
        device.socket.settimeout(broker.CONNECT_TIMEOUT_S / 2)
        device.send(b"\x10" + bytes([(CONNECT_BYTES + 1) & 127 | 128, (CONNECT_BYTES + 1) >> 7]))
        assert device.is_closed()


def test_who_says_nothing_after_the_handshake_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "CONNECT_TIMEOUT_S", 0.2)
    with unharmed(site), site.raw("pi-1") as silent, site.raw("pi-1") as drips:
        drips.send(b"\x10")
        assert silent.is_closed()
        assert drips.is_closed()


def test_who_begins_a_packet_and_does_not_end_it_is_closed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "BODY_TIMEOUT_S", 0.2)
    with unharmed(site), site.raw("pi-1") as device:
        device.send(connect_packet("pi-1"), b"\x30\x64abc")
        assert device.read(5) == CONNACK_OK


def test_who_does_no_handshake_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE_TIMEOUT_S", 0.2)
    with unharmed(site), socket.create_connection((LOOPBACK, site.port), timeout=20) as silent:
        assert silent.recv(100) == b""


def test_three_hundred_connections_that_say_nothing_keep_nobody_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them without a handshake, half of them with one; the oldest go first."""
    monkeypatch.setattr(listener, "HANDSHAKE_TIMEOUT_S", 600)
    monkeypatch.setattr(broker, "CONNECT_TIMEOUT_S", 600)
    with ExitStack() as stack:
        with unharmed(site):
            silent = [
                stack.enter_context(socket.create_connection((LOOPBACK, site.port), timeout=20))
                for _ in range(150)
            ]
            shaken = [stack.enter_context(site.raw("pi-1")) for _ in range(150)]
        assert silent[0].recv(100) == b""
        assert shaken[0].is_closed()


def test_a_device_that_reads_nothing_is_cut_off_and_costs_bounded_memory(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "DEVICE", Bounds(messages=20, bytes=10**9))
    site.add("ctl-2")
    connections = site.broker._broker._connections
    with unharmed(site), site.client("ctl-2") as controller, site.raw("pi-1") as device:
        device.send(connect_packet("pi-1"), subscribe_packet(1, (f"{PI_1}/chunk", 0)))
        assert device.read(4 + 5)
        sent = 0
        while "pi-1" in connections and sent < 500:
            controller.publish(f"{PI_1}/chunk", b"x" * PART_BYTES)
            sent += 1
        assert 20 < sent < 500


def test_a_device_that_asks_again_and_again_for_what_is_kept_costs_bounded_memory(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "DEVICE", Bounds(messages=200, bytes=10**9))
    site.add("ctl-2")
    connections, longest = site.broker._broker._connections, 0
    many = subscribe_packet(1, *[(f"{PI_1}/desired", 1)] * FILTERS_PER_PACKET)
    with unharmed(site), site.client("ctl-2") as controller, site.raw("pi-1") as device:
        controller.publish(f"{PI_1}/desired", b"x", retain=True)
        device.send(connect_packet("pi-1"))
        assert device.read(4) == CONNACK_OK
        for _ in range(40):
            device.send(many)
            longest = max(longest, len(box) if (box := _outbox(connections)) is not None else 0)
        wait_for("the device to be cut off", lambda: _outbox(connections) is None)
        assert longest <= 200


def _outbox(connections: dict[str, connection.Connection]) -> outbox.Outbox | None:
    found = connections.get("pi-1")
    return None if found is None else found.outbox


def send_many(client: RawClient, sent: bytes, count: int) -> None:
    for _ in range(count):
        client.send(sent)


def test_a_device_that_floods_is_not_read_on(site: Site) -> None:
    with unharmed(site), site.raw("pi-1") as device:
        device.send(connect_packet("pi-1", keepalive_s=0))
        device.socket.settimeout(0.5)
        with pytest.raises((TimeoutError, ssl.SSLWantWriteError)):
            send_many(device, packet(0xC0) * 1000, 20_000)


def test_a_device_that_reads_no_answer_is_not_read_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small buffers of the kernel fill sooner."""
    monkeypatch.setattr(connection, "PACKETS_PER_S", 1e9)
    monkeypatch.setattr(
        listener, "_watch", lambda taken: taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    )
    many = subscribe_packet(1, *[("", 0)] * FILTERS_PER_PACKET)
    with unharmed(site), site.raw("pi-1") as device:
        device.send(connect_packet("pi-1", keepalive_s=0))
        device.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        device.socket.settimeout(0.5)
        with pytest.raises((TimeoutError, ssl.SSLWantWriteError)):
            send_many(device, many, 200_000)


def test_devices_wait_while_the_controller_does_not_keep_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BUSY_MESSAGES", 10)
    count = outbox.WINDOW_MESSAGES + 200
    one = publish_packet(f"{PI_1}/telemetry", b"x", flags=2, packet_id=1)
    with site.raw("ctl-1") as controller, site.client("pi-1") as device:
        controller.send(connect_packet("ctl-1"), subscribe_packet(1, (f"{PI_1}/telemetry", 1)))
        assert controller.read(4 + 5)
        sent = [device.mqtt.publish(f"{PI_1}/telemetry", b"x", qos=1) for _ in range(count)]
        box = site.broker._broker._connections["ctl-1"].outbox
        wait_for("the controller to be busy", lambda: len(box) > 10)
        assert not sent[-1].is_published()
        for _ in range(count):
            found = controller.read(len(one))
            assert len(box) <= 11
            controller.send(packet(0x40, found[-3:-1]))
        wait_for("all to be taken", lambda: all(message.is_published() for message in sent))


def test_only_so_many_subscriptions_for_one_client(site: Site) -> None:
    filters = [f"fleet/v1/devices/d-{number}/ack" for number in range(SUBSCRIPTIONS_MAX)]
    with site.client("ctl-1") as controller:
        assert controller.subscribe(*((asked, 1) for asked in filters[:32])) == [1] * 32
        assert controller.subscribe(*((asked, 1) for asked in filters[32:])) == [1] * 32
        assert controller.subscribe(("fleet/v1/x", 1), (filters[0], 0)) == [0x80, 0]


def test_only_so_many_messages_of_quality_2_are_begun(site: Site) -> None:
    with unharmed(site), site.raw("pi-1") as device:
        device.send(connect_packet("pi-1"))
        begun = [
            publish_packet(f"{PI_1}/fetch", b"x", flags=4, packet_id=1 + number)
            for number in range(UNRELEASED_MAX + 1)
        ]
        device.send(*begun)
        answers = device.read(4 + 4 * UNRELEASED_MAX + 1)
        assert len(answers) == 4 + 4 * UNRELEASED_MAX


def test_any_first_bytes_harm_nobody(site: Site) -> None:
    """Bounded and repeatable: random bytes, and a good beginning with random changes."""
    chance = random.Random(20_260)
    good = (
        connect_packet("pi-1", flags=2 | 4 | 8 | 0x20, more=text(f"{PI_1}/presence") + text("gone"))
        + subscribe_packet(1, (f"{PI_1}/desired", 1))
        + publish_packet(f"{PI_1}/reported", b"x", flags=2, packet_id=3)
        + packet(0xC0)
    )
    with unharmed(site):
        for turn in range(FUZZ_CONNECTIONS):
            if turn % 3 == 0:
                sent = chance.randbytes(chance.randrange(1, 200))
            else:
                changed = bytearray(good)
                for _ in range(chance.randrange(1, 6)):
                    changed[chance.randrange(len(changed))] = chance.randrange(256)
                sent = bytes(changed)[: chance.randrange(1, len(changed) + 1)]
            with site.raw("pi-1") as client:
                client.send(sent)


def test_any_first_bytes_below_tls_harm_nobody(site: Site) -> None:
    chance = random.Random(20_261)
    with unharmed(site):
        for _ in range(FUZZ_CONNECTIONS):
            with socket.create_connection((LOOPBACK, site.port), timeout=20) as client:
                client.sendall(
                    chance.choice([b"", b"\x16\x03\x01"]) + chance.randbytes(chance.randrange(300))
                )
