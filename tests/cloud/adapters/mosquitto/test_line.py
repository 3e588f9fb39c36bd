"""The gateway as the line to the broker's administration: what comes there is no device's word."""

import queue

import pytest

from fleet_cloud.adapters.mosquitto.commands import Command
from fleet_cloud.adapters.mosquitto.control import ANSWERS, QUESTIONS, Control
from fleet_cloud.adapters.mqtt.gateway import BrokerEndpoint, Gateway
from fleet_cloud.errors import Unavailable
from fleet_shared.topics import Topics
from tests.kit.mosquitto import Mosquitto
from tests.kit.mqtt import Listener
from tests.kit.waiting import wait_for


def test_what_is_listened_to_goes_past_the_inbox_on_every_connection(mosquitto: Mosquitto) -> None:
    gateway = Gateway(BrokerEndpoint("127.0.0.1", mosquitto.port), Topics(), client_id="ctl-x")
    heard: list[bytes] = []
    gateway.listen("side/topic", heard.append)
    gateway.start(10)
    try:
        assert gateway.incoming.get(timeout=20).topic is None
        with Listener(mosquitto.port, "none") as other:
            other.publish("side/topic", b"1")
        wait_for("the word from the side", lambda: heard == [b"1"])
        mosquitto.kill()
        mosquitto.start()
        assert gateway.incoming.get(timeout=20).topic is None
        with Listener(mosquitto.port, "none") as other:
            other.publish("side/topic", b"2")
        wait_for("the word from the side", lambda: heard == [b"1", b"2"])
        with pytest.raises(queue.Empty):
            gateway.incoming.get(timeout=0.01)
    finally:
        gateway.close()


def test_a_broker_without_dynamic_security_is_said_so_and_others_answers_are_not_taken(
    mosquitto: Mosquitto,
) -> None:
    gateway = Gateway(BrokerEndpoint("127.0.0.1", mosquitto.port), Topics(), client_id="ctl-x")
    control = Control(gateway, timeout_s=1.0)
    gateway.start(10)
    try:
        with Listener(mosquitto.port, QUESTIONS) as other:
            for answer in (
                b"",
                b"{}",
                b'{"responses":[]}',
                b'{"responses":[{"correlationData":"x"}]}',
                b"[1",
            ):
                other.publish(ANSWERS, answer)
            with pytest.raises(Unavailable) as caught:
                control.run([Command("getClient", {"username": "pi-1"})])
        assert caught.value.code == "broker.control"
        assert "fleet broker config" in str(caught.value.hint)
    finally:
        gateway.close()
