"""An ordinary MQTT client that listens beside the fleet, and may speak."""

import queue
from collections.abc import Callable
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from typing_extensions import Self


class Listener:
    """Subscribed when the block begins; keeps all messages in order."""

    def __init__(self, port: int, topic: str) -> None:
        self._messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._subscribed: queue.Queue[None] = queue.Queue()
        self._port, self._topic = port, topic
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *_: self._subscribed.put(None)
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self._subscribed.get(timeout=20)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(20)

    def get(self, timeout_s: float = 20) -> tuple[str, bytes]:
        return self._messages.get(timeout=timeout_s)

    def get_all(self) -> list[tuple[str, bytes]]:
        """Return what has come in so far, and was not taken yet."""
        found: list[tuple[str, bytes]] = []
        while not self._messages.empty():
            found.append(self._messages.get())
        return found

    def wait(self, wanted: Callable[[str, bytes], bool]) -> bytes:
        """Return the first payload that is wanted; what comes before is dropped."""
        while True:
            topic, payload = self.get()
            if wanted(topic, payload):
                return payload

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._messages.put((message.topic, bytes(message.payload)))
