"""Who comes in: each way to come in as somebody else, on real sockets with real TLS. The device that is
played at notices nothing, and what comes next from it arrives."""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fleet_cloud.adapters.broker.admission import Code, judge
from fleet_cloud.adapters.broker.embedded import EmbeddedBroker
from fleet_cloud.adapters.broker.identity import Identity
from fleet_cloud.adapters.broker.packets import Connect
from fleet_cloud.domain.topic_rules import rules_of
from fleet_cloud.services.ports import TlsFiles
from fleet_shared.names import DeviceId, digest_of
from fleet_shared.topics import Topics
from tests.kit.certificates import LOOPBACK, Party, TestAuthority
from tests.kit.secure_broker import (
    CONNACK_OK,
    PI_1,
    PI_2,
    Client,
    RawClient,
    Site,
    client_context,
    connect_packet,
    packet,
    publish_packet,
    subscribe_packet,
    text,
)


def connack(code: int) -> bytes:
    return bytes([0x20, 2, 0, code])


def is_refused(site: Site, tls: TlsFiles | ssl.SSLContext) -> bool:
    """Tell whether the broker ends a connection before it answers a CONNECT."""
    try:
        with RawClient(site.port, tls) as client:
            client.send(connect_packet("pi-2"))
            return client.read(4) == b""
    except OSError:
        return True


def test_without_tls_nothing_is_answered(site: Site) -> None:
    with socket.create_connection((LOOPBACK, site.port), timeout=20) as client:
        client.sendall(connect_packet("pi-2"))
        assert b"\x20\x02" not in client.recv(100)


def test_without_a_certificate_nobody_comes_in_also_with_the_id_of_a_live_session(site: Site) -> None:
    with (
        site.client("ctl-1", subscribe=[(f"{PI_2}/presence", 1)]) as controller,
        site.client("pi-2") as device,
    ):
        assert is_refused(site, ssl.create_default_context(cafile=str(site.server.tls.authorities)))
        assert device.is_alive(f"{PI_2}/presence", b"here", controller)


def other_ca(site: Site) -> Party:
    return TestAuthority(site.folder / "other").issue("pi-2", believes=[site.authority])


def same_name_other_key_ca(site: Site) -> Party:
    """An authority of the same name, but not the same."""
    return TestAuthority(site.folder / "twin", "Test CA").issue("pi-2", believes=[site.authority])


def self_signed(site: Site) -> Party:
    authority = TestAuthority(site.folder / "self", "pi-2")
    party = authority.issue("pi-2", believes=[site.authority])
    party.tls.certificate.write_bytes(authority.pem)
    party.tls.key.write_bytes(authority.key_pem)
    return party


def expired(site: Site) -> Party:
    return site.authority.issue("pi-2", from_days=-2, to_days=-1, folder=site.folder / "expired")


def not_yet(site: Site) -> Party:
    return site.authority.issue("pi-2", from_days=1, to_days=2, folder=site.folder / "future")


def of_a_server(site: Site) -> Party:
    return site.authority.issue("pi-2", hosts=[LOOPBACK], folder=site.folder / "server")


@pytest.mark.parametrize(
    "make", [other_ca, same_name_other_key_ca, self_signed, expired, not_yet, of_a_server]
)
def test_a_certificate_that_is_not_valid_here_is_refused_in_the_handshake(
    site: Site, make: Callable[[Site], Party]
) -> None:
    party = make(site)
    site.broker.admit(DeviceId("pi-2"), party.key_sha256)
    assert is_refused(site, party.tls)
    assert is_refused(site, party.tls)


@pytest.mark.parametrize("clean", [True, False])
def test_the_client_id_of_another_is_refused_and_the_other_stays_connected_and_hears(
    site: Site, clean: bool
) -> None:
    with (
        site.client("ctl-1", subscribe=[(f"{PI_1}/presence", 1)]) as controller,
        site.client("pi-1", subscribe=[(f"{PI_1}/desired", 1)]) as device,
        site.raw("pi-2") as thief,
    ):
        thief.send(connect_packet("pi-1", flags=2 if clean else 0))
        assert thief.read(5) == connack(Code.IDENTIFIER)
        assert device.is_alive(f"{PI_1}/presence", b"still here", controller)
        controller.publish(f"{PI_1}/desired", b"for pi-1")
        assert device.get() == (f"{PI_1}/desired", b"for pi-1")


def test_a_refused_client_cannot_speak_before_it_is_closed(site: Site) -> None:
    with site.client("ctl-1", subscribe=[("fleet/v1/#", 1)]) as controller, site.raw("pi-2") as thief:
        thief.send(
            connect_packet("pi-1"),
            publish_packet(f"{PI_1}/presence", b"forged"),
            subscribe_packet(1, (f"{PI_1}/desired", 1)),
        )
        assert thief.read(100) == connack(Code.IDENTIFIER)
        controller.publish(f"{PI_2}/desired", b"next")
        assert controller.get() == (f"{PI_2}/desired", b"next")


@pytest.mark.parametrize("client_id", ["", "ctl-1", "PI-2", "pi-2 ", "pi-2/x", "+"])
def test_any_other_client_id_is_refused(site: Site, client_id: str) -> None:
    with site.raw("pi-2") as client:
        client.send(connect_packet(client_id))
        assert client.read(5) == connack(Code.IDENTIFIER)


def test_another_user_name_is_refused_and_the_own_one_is_not(site: Site) -> None:
    with site.raw("pi-2") as client:
        client.send(connect_packet("pi-2", flags=0x82, more=text("pi-1")))
        assert client.read(5) == connack(Code.CREDENTIALS)
    with site.client("pi-2", username="pi-2") as polite:
        assert polite.mqtt.is_connected()


def test_a_device_that_nobody_knows_or_with_another_key_is_refused(site: Site) -> None:
    stranger = site.authority.issue("pi-9")
    with RawClient(site.port, stranger.tls) as client:
        client.send(connect_packet("pi-9"))
        assert client.read(5) == connack(Code.NOT_AUTHORIZED)
    second = site.authority.issue("pi-1", folder=site.folder / "second")
    with RawClient(site.port, second.tls) as client:
        client.send(connect_packet("pi-1"))
        assert client.read(5) == connack(Code.NOT_AUTHORIZED)


def test_before_it_is_told_of_devices_it_lets_in_the_controller_only(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    server, device = authority.issue("broker", hosts=[LOOPBACK]), authority.issue("pi-1")
    broker = EmbeddedBroker(LOOPBACK, 0, Topics(), server.tls)
    try:
        with RawClient(broker.port, device.tls) as client:
            client.send(connect_packet("pi-1"))
            assert client.read(5) == connack(Code.UNAVAILABLE)
        with Client(broker.port, authority.issue("ctl-1").tls, "ctl-1"):
            broker.sync([(DeviceId("pi-1"), device.key_sha256)])
        with Client(broker.port, device.tls, "pi-1"):
            pass
    finally:
        broker.close()


@pytest.mark.parametrize(
    ("topic", "retain"),
    [
        (f"{PI_1}/presence", True), (f"{PI_1}/presence", False), (f"{PI_1}/desired", True),
        (f"{PI_2}/desired", True), (f"{PI_2}/ack", False), ("fleet/v1/releases", True),
        (f"{PI_2}/telemetry", True), ("fleet/v1/devices/+/presence", False), ("#", False), ("$SYS/x", False),
        ("", False),
    ],
)  # fmt: skip
def test_a_will_obeys_the_rules_before_any_session_is_touched(site: Site, topic: str, retain: bool) -> None:
    with (
        site.client("ctl-1", subscribe=[("fleet/v1/#", 1)]) as controller,
        site.client("pi-2", subscribe=[(f"{PI_2}/desired", 1)]) as live,
    ):
        with site.raw("pi-2") as client:
            flags = 2 | 4 | 8 | (0x20 if retain else 0)
            client.send(connect_packet("pi-2", flags=flags, more=text(topic) + text("forged")))
            assert client.read(5) == connack(Code.NOT_AUTHORIZED)
        controller.publish(f"{PI_2}/desired", b"next")
        assert controller.get() == (f"{PI_2}/desired", b"next")
        assert live.get() == (f"{PI_2}/desired", b"next")


def test_a_will_has_a_bound(site: Site) -> None:
    for size, expected in ((4096, CONNACK_OK), (4097, connack(Code.NOT_AUTHORIZED))):
        with site.raw("pi-2") as client:
            more = text(f"{PI_2}/presence") + text(b"x" * size)
            client.send(connect_packet("pi-2", flags=2 | 4 | 8, more=more))
            assert client.read(4) == expected


@pytest.mark.parametrize("flags", [2, 2 | 4 | 8 | 0x20])
@pytest.mark.parametrize(("name", "level"), [("MQTT", 5), ("MQTT", 3), ("MQIsdp", 3), ("MQTT", 6)])
def test_another_version_of_mqtt_is_told_so(site: Site, name: str, level: int, flags: int) -> None:
    """A CONNECT of MQTT 5 with a will is what agents begin with; amqtt waits for more of it."""
    with site.raw("pi-2") as client:
        more = b"\0" + text(f"{PI_2}/presence") + text("offline")
        client.send(connect_packet("pi-2", name=name, level=level, flags=flags, more=more))
        assert client.read(5) == connack(Code.VERSION)


def test_tls_below_1_2_is_refused(site: Site) -> None:
    context = client_context(site.parties["pi-1"].tls)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match=r"TLSv1_1 is deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert is_refused(site, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed_so_that_each_connection_shows_its_certificate(
    site: Site, version: ssl.TLSVersion
) -> None:
    context = client_context(site.parties["pi-1"].tls)
    context.minimum_version = context.maximum_version = version
    session = None
    for _ in range(2):
        with RawClient(site.port, context, session) as client:
            assert not client.socket.session_reused
            client.send(connect_packet("pi-1"))
            assert client.read(4) == CONNACK_OK
            client.send(packet(0xE0))
            session = client.socket.session
            with suppress(OSError):
                client.socket.unwrap()  # a session that was closed well could be resumed


def test_a_decision_needs_a_certificate_whatever_else_is_said() -> None:
    connect = Connect("pi-1", 60, True, None, None)
    key = digest_of(b"key")
    rules = rules_of(Topics(), "pi-1")
    identity = Identity("pi-1", key, 0)
    known = {DeviceId("pi-1"): key}
    assert judge(connect, identity, rules, known) is None
    assert judge(connect, None, rules, known) is not None
    assert judge(connect, replace(identity, key=digest_of(b"other")), rules, known) is not None
