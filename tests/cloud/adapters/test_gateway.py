"""The controller at a real broker: what is retained, what is dropped, what a broker that goes away does."""

import queue
import time
from collections.abc import Callable, Iterator

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from fleet_cloud.adapters.mqtt.gateway import BrokerEndpoint, Gateway
from fleet_cloud.adapters.mqtt.inbox import TOPIC_WAITING_MAX, Inbox, Incoming
from fleet_cloud.errors import Unavailable
from fleet_cloud.services.ports import OutgoingMessage
from fleet_shared.topics import Topics
from tests.kit.mosquitto import Mosquitto
from tests.kit.mqtt import Listener
from tests.kit.ports import free_port
from tests.kit.waiting import wait_for

REPORTED = "fleet/v1/devices/pi-1/reported"
MARKER = Incoming(None, b"")


@pytest.fixture
def open_gateway() -> Iterator[Callable[[int], Gateway]]:
    opened: list[Gateway] = []

    def open_one(port: int) -> Gateway:
        gateway = Gateway(BrokerEndpoint("127.0.0.1", port), Topics(), client_id=f"ctl-{len(opened)}")
        opened.append(gateway)
        gateway.start(10)
        return gateway

    yield open_one
    for gateway in opened:
        gateway.close()


def take(gateway: Gateway) -> Incoming:
    return gateway.incoming.get(timeout=20)


def desired(payload: bytes) -> OutgoingMessage:
    return OutgoingMessage("fleet/v1/devices/pi-1/desired", payload, retain=True)


def test_what_a_broker_had_kept_is_told_from_what_is_new(
    mosquitto: Mosquitto, open_gateway: Callable[[int], Gateway]
) -> None:
    with Listener(mosquitto.port, "none") as device:
        device.publish(REPORTED, b"kept", retain=True)
        gateway = open_gateway(mosquitto.port)
        first = [take(gateway), take(gateway)]
        assert MARKER in first
        assert Incoming(REPORTED, b"kept", retained=True) in first
        device.publish(REPORTED, b"new", retain=True)
        assert take(gateway) == Incoming(REPORTED, b"new", retained=False)


def test_messages_are_taken_by_the_broker_or_said_not_to_be(
    mosquitto: Mosquitto, open_gateway: Callable[[int], Gateway]
) -> None:
    gateway = open_gateway(mosquitto.port)
    with Listener(mosquitto.port, "fleet/v1/devices/+/desired") as device:
        messages = [desired(b"%d" % number) for number in range(150)]
        assert gateway.publish(messages) == [True] * 150
        assert [device.get()[1] for _ in range(150)] == [message.payload for message in messages]
    mosquitto.kill()
    wait_for("the gateway to notice", lambda: gateway.status != "connected" or None)
    assert gateway.connected_ms is None
    assert gateway.publish([desired(b"later")]) == [False]


def test_after_a_broker_was_away_the_marker_comes_again_and_old_messages_overwrite_nothing(
    mosquitto: Mosquitto, open_gateway: Callable[[int], Gateway]
) -> None:
    gateway = open_gateway(mosquitto.port)
    assert take(gateway) == MARKER
    mosquitto.pause()
    started = time.monotonic()
    assert gateway.publish([desired(b"generation 5")]) == [False]
    assert time.monotonic() - started < 15
    mosquitto.kill()
    mosquitto.start()
    assert take(gateway) == MARKER
    assert gateway.publish([desired(b"generation 6")]) == [True]
    with Listener(mosquitto.port, "fleet/v1/devices/+/desired") as device:
        assert device.get()[1] == b"generation 6"


def test_pictures_are_never_dropped_and_a_newer_one_replaces_an_older_one() -> None:
    inbox = Inbox(waiting_max=2)
    assert inbox.put(MARKER)
    for number in range(1000):
        assert inbox.put(Incoming(f"fleet/v1/devices/pi-{number % 500}/reported", b"%d" % number))
    rows = [Incoming("fleet/v1/devices/pi-1/telemetry", b"%d" % number) for number in range(3)]
    assert [inbox.put(row) for row in rows] == [True, True, False]
    assert inbox.get(1) == MARKER
    pictures = [inbox.get(1) for _ in range(500)]
    assert [picture.payload for picture in pictures] == [b"%d" % number for number in range(500, 1000)]
    assert [inbox.get(1) for _ in range(2)] == rows[:2]
    with pytest.raises(queue.Empty):
        inbox.get(0.01)


def test_a_device_that_floods_the_broker_waits_for_itself() -> None:
    inbox = Inbox(waiting_max=1000)
    flood = [inbox.put(Incoming("fleet/v1/devices/greedy/fetch", b"%d" % number)) for number in range(500)]
    assert flood.count(True) == TOPIC_WAITING_MAX
    other = Incoming("fleet/v1/devices/pi-1/telemetry", b"rows")
    assert inbox.put(other)
    assert other in [inbox.get(1) for _ in range(2)]


def test_a_device_that_reports_without_end_keeps_nobody_from_being_heard() -> None:
    inbox = Inbox(waiting_max=1000)
    picture = Incoming("fleet/v1/devices/greedy/reported", b"again")
    other = Incoming("fleet/v1/devices/pi-1/telemetry", b"rows")
    inbox.put(picture)
    inbox.put(other)
    got = []
    for _ in range(2):
        got.append(inbox.get(1))
        inbox.put(picture)
    assert got == [picture, other]


def test_a_broker_that_lets_nobody_read_is_not_taken_for_a_healthy_one(
    mosquitto: Mosquitto, open_gateway: Callable[[int], Gateway]
) -> None:
    gateway = open_gateway(mosquitto.port)
    mosquitto.kill()
    wait_for("the gateway to notice", lambda: gateway.status != "connected" or None)
    refused = ReasonCode(PacketTypes.SUBACK, "Not authorized")
    gateway._on_subscribe(mqtt.Client(CallbackAPIVersion.VERSION2), None, 1, [refused], None)
    assert "refuses to let the controller read: Not authorized" in gateway.status
    assert gateway.connected_ms is None


def test_a_broker_that_is_not_there_is_said_so(open_gateway: Callable[[int], Gateway]) -> None:
    with pytest.raises(Unavailable) as caught:
        open_gateway(free_port())
    assert caught.value.code == "broker.unreachable"
    assert caught.value.hint
