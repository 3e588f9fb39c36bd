"""The connection to the local broker, on paho-mqtt 2.

The session is kept by the broker under the bridge's client id, so that what arrives while the bridge
is away is not lost. Each attempt is a client of its own; one that was dropped says nothing any more.
Messages are acknowledged by hand.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from fleet_agent.bridge.answers import BridgeStatus
from fleet_agent.bridge.desk import Publication
from fleet_agent.bridge.settings import BrokerSettings
from fleet_agent.errors import SettingsError

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 10.0
RECEIVE_MAX: Final = 65_535


@dataclass(frozen=True)
class Connected:
    attempt: int
    session_kept: bool


@dataclass(frozen=True)
class Disconnected:
    attempt: int
    reason: str


@dataclass(frozen=True)
class Arrived:
    """``number``: to acknowledge it with; none for one that was sent at QoS 0, which wants no such thing."""

    attempt: int
    topic: str
    payload: bytes
    number: int | None
    again: bool
    correlation: bytes | None


@dataclass(frozen=True)
class Confirmed:
    """The broker has what was published under ``number``, or says why it does not want it."""

    attempt: int
    number: int
    refusal: str = ""


BrokerEvent = Connected | Disconnected | Arrived | Confirmed


class Broker:
    """``notify`` is called from paho's thread and must only put the event on a queue. The thread that
    owns this object never waits for the network."""

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        filters: Sequence[str],
        status_topic: str,
        receive_max: int,
        notify: Callable[[BrokerEvent], None],
    ) -> None:
        self._settings, self._notify = settings, notify
        self._filters = list(dict.fromkeys(filters))
        self._status_topic = status_topic
        self._receive_max = min(receive_max, RECEIVE_MAX)
        self._client: mqtt.Client | None = None
        self.attempt = 0

    @property
    def is_five(self) -> bool:
        return self._settings.protocol == "5"

    def check(self) -> None:
        """Raise `SettingsError` (``bridge.settings``) for files that cannot be used."""
        try:
            self._build(0)
        except (OSError, ValueError) as exc:
            raise SettingsError(
                f"the credentials for the local broker cannot be used: {exc}",
                hint="look at password_file, ca_file, certificate_file and key_file",
                code="bridge.settings",
            ) from exc

    def connect(self) -> None:
        """Start one attempt; it ends in `Connected` or `Disconnected`."""
        self.drop()
        self.attempt += 1
        attempt = self.attempt
        try:
            client = self._client = self._build(attempt)  # reads the files anew: passwords change
        except (OSError, ValueError) as exc:
            self._notify(Disconnected(attempt, str(exc)))
            return
        threading.Thread(target=self._run, args=(client, attempt), name="local-mqtt", daemon=True).start()

    def publish(self, publication: Publication) -> int | None:
        """Hand a message over at QoS 1 and return its number; none when there is no connection.
        Raises `ValueError` for a topic that is none."""
        client = self._client
        if client is None or not client.is_connected():
            return None
        properties = None
        if self.is_five and publication.correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = publication.correlation
        info = client.publish(publication.topic, publication.payload, qos=1, properties=properties)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def publish_status(self, payload: bytes) -> None:
        if self._client is not None:
            self._client.publish(self._status_topic, payload, qos=1, retain=True)

    def acknowledge(self, number: int) -> None:
        if self._client is not None:
            self._client.ack(number, 1)

    def close(self) -> None:
        """Say that the bridge is offline, and leave; the broker keeps the session."""
        client = self._client
        if client is not None and client.is_connected():
            try:
                info = client.publish(self._status_topic, _offline(), qos=1, retain=True)
                info.wait_for_publish(2.0)
            except (RuntimeError, ValueError):
                log.info("the broker did not take the last status")
        self.drop()

    def drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()

    def _run(self, client: mqtt.Client, attempt: int) -> None:
        try:
            client.connect(
                self._settings.host,
                self._settings.port,
                keepalive=self._settings.keepalive_s,
                **self._session_options(),
            )
        except (OSError, ValueError) as exc:
            self._notify(Disconnected(attempt, f"{self._settings.host}:{self._settings.port}: {exc}"))
            return
        if client is not self._client:
            client.disconnect()
        client.loop_start()

    def _session_options(self) -> dict[str, Any]:
        if not self.is_five:
            return {}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._settings.session_s
        properties.ReceiveMaximum = self._receive_max
        return {"clean_start": False, "properties": properties}

    def _build(self, attempt: int) -> mqtt.Client:
        settings = self._settings
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if self.is_five else MQTTProtocolVersion.MQTTv311,
            clean_session=None if self.is_five else settings.session_s == 0,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        if settings.username:
            password = Path(settings.password_file).read_text().strip() if settings.password_file else None
            client.username_pw_set(settings.username, password)
        if settings.tls or settings.ca_file:
            client.tls_set(
                ca_certs=settings.ca_file or None,
                certfile=settings.certificate_file or None,
                keyfile=settings.key_file or None,
            )
        client.will_set(self._status_topic, _offline(), qos=1, retain=True)
        self._listen(client, attempt)
        return client

    def _subscribe(self, client: mqtt.Client) -> None:
        """What is retained comes with a new subscription only: it was answered when it came first."""
        if self.is_five:
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            client.subscribe([(topic, options) for topic in self._filters])
        else:
            client.subscribe([(topic, 1) for topic in self._filters])

    def _listen(self, client: mqtt.Client, attempt: int) -> None:
        def on_connect(
            client: mqtt.Client,
            _data: Any,
            flags: mqtt.ConnectFlags,
            reason: ReasonCode,
            _properties: Properties | None,
        ) -> None:
            if reason.is_failure:
                self._notify(Disconnected(attempt, f"the broker refuses the bridge: {reason}"))
                return
            self._notify(Connected(attempt, flags.session_present))
            self._subscribe(client)

        def on_subscribe(
            _client: mqtt.Client,
            _data: Any,
            _id: int,
            reasons: list[ReasonCode],
            _properties: Properties | None,
        ) -> None:
            if refused := [reason for reason in reasons if reason.is_failure]:
                self._notify(
                    Disconnected(attempt, f"the broker refuses to let the bridge read: {refused[0]}")
                )

        def on_disconnect(
            _client: mqtt.Client,
            _data: Any,
            _flags: mqtt.DisconnectFlags,
            reason: ReasonCode,
            _properties: Properties | None,
        ) -> None:
            self._notify(Disconnected(attempt, str(reason)))

        def on_message(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
            correlation = getattr(message.properties, "CorrelationData", None) if message.properties else None
            number = message.mid if message.qos else None
            self._notify(
                Arrived(attempt, message.topic, bytes(message.payload), number, message.dup, correlation)
            )

        def on_publish(
            _client: mqtt.Client, _data: Any, number: int, reason: ReasonCode, _properties: Properties | None
        ) -> None:
            self._notify(Confirmed(attempt, number, str(reason) if reason.is_failure else ""))

        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        client.on_disconnect = on_disconnect
        client.on_message = on_message
        client.on_publish = on_publish


def _offline() -> bytes:
    return msgspec.json.encode(BridgeStatus(online=False))
