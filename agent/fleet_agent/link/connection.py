"""The MQTT connection of a device, on paho-mqtt 2.

MQTT 5 first; a broker that does not speak it gets 3.1.1 from then on. Sessions start clean:
subscriptions are data and applied on each connect. The will carries the session id, so it is set
anew before each connect. The supervisor's thread owns this object and never waits for the network:
each attempt resolves, connects and reads in a thread of its own, which only calls ``notify``. An
attempt that was dropped says nothing any more.

With TLS, the terms (`tls`) are made anew for each attempt, and an attempt whose server is not who it should
be ends before a word of MQTT is said: a broker that cannot prove itself learns neither name nor password.

A device that was enrolled when its broker had no TLS yet tries that too, when the broker does not answer: its
controller may be a newer one by now. Once it came through, there is no way back.
"""

import logging
import ssl
import threading
from collections.abc import Callable
from itertools import cycle
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fleet_agent.link.events import Connected, Disconnected, LinkEvent, MessageReceived, ReleasesNews
from fleet_shared.errors import InvalidTopic
from fleet_shared.limits import RELEASES_BYTES
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.messages.presence import Presence
from fleet_shared.names import DeviceId
from fleet_shared.topics import TO_DEVICE, Channel, Topics
from fleet_shared.wire import encode

log = logging.getLogger(__name__)

KEEPALIVE_S = 30
ANSWER_TIMEOUT_S = 5.0
REACH_ROUNDS = 6
CONNECT_TIMEOUT_S = 10.0
QUEUED_MESSAGES_MAX = 64
REFUSALS = range(133, 139)
"""Reason codes of MQTT (5.0, 3.2.2.2) that mean this device, from its client id to its rights, or all devices
at the moment: another version of the protocol would hear the same."""


class Connection:
    """``notify`` is called from paho's thread and must only put the event on a queue. ``tls`` makes the terms
    of an attempt (it may raise `OSError`), where the broker asks for TLS. ``secured`` is called when a broker
    that had no TLS has it now."""

    def __init__(
        self,
        device: DeviceId,
        topics: Topics,
        broker: BrokerAddress,
        notify: Callable[[LinkEvent], None],
        new_session: Callable[[], str],
        tls: Callable[[], ssl.SSLContext] | None = None,
        secured: Callable[[], None] = lambda: None,
    ) -> None:
        if broker.host is None:
            raise ValueError("the broker's host must be resolved before connecting")
        if broker.tls and tls is None:
            raise ValueError("a broker with TLS needs its terms")
        self._tls, self._secured = tls, secured
        self._device, self._topics, self._broker = device, topics, broker
        self._host = broker.host
        self._notify, self._new_session = notify, new_session
        self._ways = cycle(_ways(broker, may_secure=tls is not None))
        self._must_tls = broker.tls
        self._protocol, self._secure = next(self._ways)
        self._plain_reason = self._refusal = ""
        self._session = ""
        self._answered = False
        self._hears = False
        self._reached = False
        self._waited = False
        self._rounds = 0
        self._asked: int | None = None
        self._client: mqtt.Client | None = None

    @property
    def session(self) -> str:
        return self._session

    def connect(self) -> None:
        """Start one attempt; its end comes as `Connected` or `Disconnected`. Never raises for a
        broker that is away."""
        self._drop()
        # TLS on trial with a broker that has none fails before it counts as reached: without a step back here
        # such a device would try nothing else for ever.
        on_trial = self._secure and not self._must_tls
        if (self._reached or on_trial) and not self._answered:
            self._protocol, self._secure = next(self._ways)
        self._session = self._new_session()
        self._answered = self._hears = self._reached = self._waited = False
        self._rounds, self._refusal = 0, ""
        client = self._client = self._build_client()
        try:
            threading.Thread(target=self._run, args=[client], name="mqtt", daemon=True).start()
        except RuntimeError as exc:
            self._notify(Disconnected(f"no thread can be started: {exc}"))

    def publish(self, channel: Channel, payload: bytes, *, retain: bool = False) -> bool:
        """Hand ``payload`` to the broker at QoS 1; tell whether it could be handed over."""
        client = self._client
        if client is None or not client.is_connected():
            return False
        topic = self._topics.device(self._device, channel)
        return client.publish(topic, payload, qos=1, retain=retain).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """Say honestly that this device goes offline, and disconnect."""
        client = self._client
        if client is not None and client.is_connected():
            topic = self._topics.device(self._device, Channel.PRESENCE)
            try:
                client.publish(topic, self._presence(online=False), qos=1, retain=True).wait_for_publish(2.0)
            except (RuntimeError, ValueError):
                log.info("the broker did not take the last presence")
        self._drop()

    def give_up(self) -> bool:
        """End an attempt that takes too long; called every `ANSWER_TIMEOUT_S`. Tell whether there is
        nothing to wait for any more.

        Some brokers say nothing to a version of MQTT that they do not know: one that was reached has
        one more round to answer. Names and slow links have `REACH_ROUNDS` to be reached.
        """
        if self._client is None or self._hears:
            return True
        self._rounds += 1
        if not self._reached and self._rounds < REACH_ROUNDS:
            return False
        if self._reached and not self._waited:
            self._waited = True
            return False
        self._drop()
        self._notify(Disconnected("the broker does not answer"))
        return True

    def _run(self, client: mqtt.Client) -> None:
        try:
            if self._secure and self._tls is not None:
                client.tls_set_context(self._tls())
            client.connect(self._host, self._broker.port, keepalive=KEEPALIVE_S)
        except (OSError, ValueError) as exc:
            if client is self._client:
                self._notify(self._explain(exc))
            return
        if client is not self._client:
            client.disconnect()
        try:
            client.loop_start()
        except RuntimeError as exc:
            if client is self._client:
                self._notify(Disconnected(f"no thread can be started: {exc}"))

    def _explain(self, exc: OSError | ValueError) -> Disconnected:
        """A broker that has no TLS is away for the reason that it gave without."""
        found = _explain(f"{self._host}:{self._broker.port}", exc)
        if self._secure and not self._must_tls and not found.untrusted and self._plain_reason:
            return Disconnected(self._plain_reason)
        return found

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()

    def _build_client(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._device,
            protocol=self._protocol,
            reconnect_on_failure=False,
            clean_session=None if self._protocol is MQTTProtocolVersion.MQTTv5 else True,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_queued_messages_set(QUEUED_MESSAGES_MAX)
        client.username_pw_set(self._broker.username or self._device, self._broker.password)
        presence = self._topics.device(self._device, Channel.PRESENCE)
        client.will_set(presence, self._presence(online=False), qos=1, retain=True)
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _presence(self, *, online: bool) -> bytes:
        return encode(Presence(session=self._session, online=online))

    def _on_socket_open(self, client: mqtt.Client, _data: Any, _socket: Any) -> None:
        if client is self._client:
            self._reached = True

    def _on_connect(
        self,
        client: mqtt.Client,
        _data: Any,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if client is not self._client:
            return
        if reason.is_failure:
            self._refusal = str(reason)  # the disconnect that follows knows no better
            self._answered = reason.value in REFUSALS
            return
        self._answered = True
        self._asked = client.subscribe(
            [(self._topics.device(self._device, channel), 1) for channel in TO_DEVICE]
        )[1]
        client.subscribe(self._topics.releases, 1)

    def _on_subscribe(
        self,
        client: mqtt.Client,
        _data: Any,
        number: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        """Only a device that hears is there: one that may not read would be online and deaf. News of
        releases only come sooner than without them."""
        if client is not self._client:
            return
        refused = [reason for reason in reasons if reason.is_failure]
        if number != self._asked:
            if refused:
                log.info("the broker tells this device no news of releases: %s", refused[0])
            return
        if refused:
            self._drop()
            self._notify(Disconnected(f"the broker refuses to let this device read: {refused[0]}"))
            return
        self._hears = True
        presence = self._topics.device(self._device, Channel.PRESENCE)
        client.publish(presence, self._presence(online=True), qos=1, retain=True)
        if self._secure and not self._must_tls:
            self._must_tls = True
            self._ways = cycle([(self._protocol, True), (_other(self._protocol), True)])
            next(self._ways)  # this one
            self._secured()
        self._notify(Connected(self._session))

    def _on_disconnect(
        self,
        client: mqtt.Client,
        _data: Any,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if client is not self._client:
            return
        said = self._refusal or str(reason)
        if not self._secure:
            self._plain_reason = said
        self._notify(Disconnected(said))

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if client is not self._client:
            return
        if message.topic == self._topics.releases:
            if len(message.payload) <= RELEASES_BYTES:
                self._notify(ReleasesNews(bytes(message.payload)))
            return
        try:
            topic = self._topics.parse(message.topic)
        except InvalidTopic:
            return
        if topic.device == self._device and topic.channel in TO_DEVICE:
            self._notify(MessageReceived(topic.channel, bytes(message.payload)))


def _ways(broker: BrokerAddress, *, may_secure: bool) -> list[tuple[MQTTProtocolVersion, bool]]:
    """Return what is tried, one after the other, while a broker that is reached does not answer: the version
    of MQTT, and whether with TLS."""
    first = MQTTProtocolVersion.MQTTv5 if broker.mqtt5 else MQTTProtocolVersion.MQTTv311
    versions = (first, _other(first))
    secure = (True,) if broker.tls else (False, True) if may_secure else (False,)
    return [(version, tls) for tls in secure for version in versions]


def _other(version: MQTTProtocolVersion) -> MQTTProtocolVersion:
    older, newer = MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5
    return older if version is newer else newer


def _explain(where: str, exc: OSError | ValueError) -> Disconnected:
    """Return why an attempt failed; a broker of an authority that this device does not know may be its own
    one, after a rotation that it missed."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return Disconnected(f"{where}: its certificate is refused: {exc.verify_message}", untrusted=True)
    return Disconnected(
        f"{where}: {exc.strerror or exc}" if isinstance(exc, ssl.SSLError) else f"{where}: {exc}"
    )
