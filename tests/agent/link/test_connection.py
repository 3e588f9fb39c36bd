"""The connection against a real broker, a broker that says nothing, and one that cannot be reached."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from fleet_agent.link.connection import Connection
from fleet_agent.link.events import Connected, Disconnected, LinkEvent, MessageReceived
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.names import DeviceId
from fleet_shared.topics import Channel, Topics
from tests.kit.mosquitto import Mosquitto
from tests.kit.mqtt import Listener
from tests.kit.ports import free_port

DEVICE = DeviceId("pi-1")
Connect = Callable[[int], Connection]


@pytest.fixture
def events() -> "queue.Queue[LinkEvent]":
    return queue.Queue()


@pytest.fixture
def connect(events: "queue.Queue[LinkEvent]") -> Iterator[Connect]:
    made = []

    def make(port: int) -> Connection:
        numbers = count(1)
        address = BrokerAddress(host="127.0.0.1", port=port)
        connection = Connection(DEVICE, Topics(), address, events.put, lambda: f"session-{next(numbers)}")
        made.append(connection)
        connection.connect()
        return connection

    yield make
    for connection in made:
        connection.close()


def test_presence_is_retained_and_messages_arrive(
    mosquitto: Mosquitto, connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    connection = connect(mosquitto.port)
    assert events.get(timeout=20) == Connected("session-1")
    with Listener(mosquitto.port, "fleet/v1/#") as listener:
        topic, payload = listener.get()
        assert topic == "fleet/v1/devices/pi-1/presence"
        assert b'"session":"session-1"' in payload
        assert b'"online":true' in payload
        listener.publish("fleet/v1/devices/pi-1/ack", b"to this device")
        listener.publish("fleet/v1/devices/pi-2/ack", b"to another")
        listener.publish("fleet/v1/devices/pi-1/desired", b"\x00binary")
        received = [events.get(timeout=20), events.get(timeout=20)]
        assert received == [
            MessageReceived(Channel.ACK, b"to this device"),
            MessageReceived(Channel.DESIRED, b"\x00binary"),
        ]
        connection.close()
        last = listener.wait(lambda topic, payload: topic.endswith("presence") and b"false" in payload)
        assert b'"session":"session-1"' in last


def test_a_broker_that_is_not_there_ends_the_attempt(
    connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    connect(free_port())
    event = events.get(timeout=20)
    assert isinstance(event, Disconnected)
    assert "refused" in event.reason


def test_each_attempt_has_a_session_of_its_own_and_a_dropped_one_stays_silent(
    mosquitto: Mosquitto, connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    connection = connect(mosquitto.port)
    assert events.get(timeout=20) == Connected("session-1")
    connection.connect()
    assert events.get(timeout=20) == Connected("session-2")
    assert connection.publish(Channel.TELEMETRY, b"{}")
    with pytest.raises(queue.Empty):
        events.get(timeout=0.5)


def test_a_killed_broker_is_noticed(
    mosquitto: Mosquitto, connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    connection = connect(mosquitto.port)
    events.get(timeout=20)
    mosquitto.kill()
    assert isinstance(events.get(timeout=20), Disconnected)
    assert not connection.publish(Channel.TELEMETRY, b"{}")


def test_a_broker_that_says_nothing_is_given_up_and_asked_in_the_older_protocol(
    connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        connection = connect(silent.getsockname()[1])
        with _accept(silent) as peer:
            assert _read_level(peer) == 5
            assert not connection.give_up(), "a broker that was reached has another round"
            assert connection.give_up()
            assert events.get(timeout=20) == Disconnected("the broker does not answer")
        connection.connect()
        with _accept(silent) as peer:
            assert _read_level(peer) == 4


def test_a_broker_that_takes_the_connection_and_answers_no_subscription_is_given_up(
    connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    """Online and deaf for ever would be worse than offline."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        connection = connect(server.getsockname()[1])
        with _accept(server) as peer:
            assert _read_level(peer) == 5
            peer.sendall(bytes([0x20, 3, 0, 0, 0]))  # CONNACK (MQTT 5.0, 3.2)
            received = b""
            while b"/desired" not in received:  # the subscription
                received += peer.recv(256)
            while not connection.give_up():
                assert events.empty()
            assert events.get(timeout=20) == Disconnected("the broker does not answer")
        connection.connect()
        with _accept(server) as peer:
            assert _read_level(peer) == 5, "it did speak this version"


def test_a_broker_that_hangs_up_on_a_version_is_asked_in_the_other(
    connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        connection = connect(server.getsockname()[1])
        for expected in (5, 4, 5):
            with _accept(server) as peer:
                assert _read_level(peer) == expected
            assert isinstance(events.get(timeout=20), Disconnected)
            connection.connect()


def test_a_host_that_swallows_packets_does_not_hold_up_the_caller(
    connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())  # fills the backlog: further connects hang
        begin = time.monotonic()
        connection = connect(full.getsockname()[1])
        while not connection.give_up():
            assert events.empty()
        connection.connect()
        connection.close()
        assert time.monotonic() - begin < 5, "paho's own time-out is 10 s an attempt"
        assert events.get(timeout=1) == Disconnected("the broker does not answer")


def _accept(server: socket.socket) -> socket.socket:
    return server.accept()[0]


def _read_level(peer: socket.socket) -> int:
    """Return the protocol level of the CONNECT packet (MQTT 5.0, 3.1.2.2)."""
    packet = peer.recv(64)
    assert packet[4:8] == b"MQTT"
    return packet[8]


def test_a_machine_without_threads_counts_as_a_broker_that_is_away(
    mosquitto: Mosquitto,
    connect: Connect,
    events: "queue.Queue[LinkEvent]",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        connection = connect(mosquitto.port)
    event = events.get(timeout=20)
    assert isinstance(event, Disconnected)
    assert "can't start new thread" in event.reason
    connection.connect()
    assert isinstance(events.get(timeout=20), Connected)
