"""Certificates are renewed and the CA is rotated while sessions live; the controller comes with TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_cloud.adapters.broker.embedded import EmbeddedBroker
from fleet_cloud.adapters.mqtt.gateway import BrokerEndpoint, Gateway
from fleet_cloud.adapters.mqtt.inbox import Incoming
from fleet_cloud.errors import SettingsError, Unavailable
from fleet_cloud.services.ports import OutgoingMessage, TlsFiles
from fleet_shared.names import DeviceId
from fleet_shared.topics import Topics
from tests.kit.certificates import LOOPBACK, TestAuthority
from tests.kit.secure_broker import CONNACK_OK, Client, RawClient, Site, connect_packet
from tests.kit.waiting import wait_for

PI_1 = "fleet/v1/devices/pi-1"


def open_gateway(port: int, tls: TlsFiles, host: str = LOOPBACK, name: str = "ctl-1") -> Gateway:
    return Gateway(BrokerEndpoint(host, port, mqtt5=False, tls=tls), Topics(), client_id=name)


@pytest.fixture
def gateway(site: Site) -> Iterator[Gateway]:
    opened = open_gateway(site.port, site.parties["ctl-1"].tls)
    opened.start(10)
    yield opened
    opened.close()


def test_the_gateway_hears_devices_and_speaks_to_them(site: Site, gateway: Gateway) -> None:
    with site.client("pi-1", subscribe=[(f"{PI_1}/desired", 1)]) as device:
        assert gateway.incoming.get(20) == Incoming(None, b"")
        device.publish(f"{PI_1}/telemetry", b"up")
        assert gateway.incoming.get(20) == Incoming(f"{PI_1}/telemetry", b"up")
        messages = [OutgoingMessage(f"{PI_1}/desired", b"%d" % number, retain=True) for number in range(300)]
        assert gateway.publish(messages) == [True] * 300
        assert [device.get()[1] for _ in messages] == [message.payload for message in messages]


@pytest.mark.parametrize("mqtt5", [True, False])
def test_a_controller_that_prefers_mqtt_5_is_told_and_takes_3_1_1(site: Site, mqtt5: bool) -> None:
    endpoint = BrokerEndpoint(LOOPBACK, site.port, mqtt5=mqtt5, tls=site.parties["ctl-1"].tls)
    gateway = Gateway(endpoint, Topics(), client_id="ctl-1")
    try:
        gateway.start(20)
        assert gateway.status == "connected"
    finally:
        gateway.close()


def test_the_gateway_believes_no_broker_of_another_authority_and_none_of_another_name(site: Site) -> None:
    stranger = TestAuthority(site.folder / "other")
    strange = stranger.issue("broker", hosts=[LOOPBACK])
    fake = EmbeddedBroker(LOOPBACK, 0, Topics(), strange.tls)
    try:
        with pytest.raises(Unavailable) as caught:
            open_gateway(fake.port, site.parties["ctl-1"].tls).start(5)
        assert caught.value.code == "broker.unreachable"
        assert "certificate" in str(caught.value).lower()
    finally:
        fake.close()
    named = site.authority.issue("broker", hosts=["elsewhere"], folder=site.folder / "named")
    elsewhere = EmbeddedBroker(LOOPBACK, 0, Topics(), named.tls)
    try:
        with pytest.raises(Unavailable):
            open_gateway(elsewhere.port, site.parties["ctl-1"].tls).start(5)
    finally:
        elsewhere.close()


def test_a_renewed_server_certificate_is_shown_to_the_next_client_and_ends_no_session(site: Site) -> None:
    with site.client("ctl-1", subscribe=[(f"{PI_1}/presence", 1)]) as controller, site.client("pi-1") as live:
        with site.raw("pi-2") as before:
            shown = before.socket.getpeercert(binary_form=True)
        site.authority.issue("broker", hosts=[LOOPBACK, "localhost"])
        with site.raw("pi-2") as after:
            assert after.socket.getpeercert(binary_form=True) != shown
        assert live.is_alive(f"{PI_1}/presence", b"here", controller)


def test_the_ca_is_rotated_while_sessions_live_and_the_old_one_is_let_in_no_more_at_the_end(
    site: Site,
) -> None:
    new = TestAuthority(site.folder / "new", "Test CA 2")
    both, server = [site.authority, new], site.server.tls.key.parent
    with site.client("ctl-1", subscribe=[(f"{PI_1}/presence", 1)]) as controller, site.client("pi-1") as live:
        site.authority.issue("broker", hosts=[LOOPBACK], believes=both)
        fresh = new.issue("pi-2", believes=both)
        site.broker.admit(DeviceId("pi-2"), fresh.key_sha256)
        with Client(site.port, fresh.tls, "pi-2"):
            assert live.is_alive(f"{PI_1}/presence", b"beside the new one", controller)
        new.issue("broker", hosts=[LOOPBACK], folder=server)
        site.parties["pi-1"].tls.authorities.write_bytes(new.pem)
        with site.raw("pi-1") as old:
            old.send(connect_packet("pi-1"))
            assert old.read(4) == b""
        with Client(site.port, fresh.tls, "pi-2"):
            assert live.is_alive(f"{PI_1}/presence", b"until it ends", controller)


def test_the_gateway_comes_back_with_its_renewed_certificate(site: Site, gateway: Gateway) -> None:
    """Its old one is no longer valid at a broker that believes a new authority only."""
    new = TestAuthority(site.folder / "new", "Test CA 2")
    new.issue("broker", hosts=[LOOPBACK], folder=site.server.tls.key.parent)
    new.issue("ctl-1", folder=site.parties["ctl-1"].tls.key.parent)
    with RawClient(site.port, site.parties["ctl-1"].tls) as newest:
        newest.send(connect_packet("ctl-1"))
        assert newest.read(4) == CONNACK_OK
        wait_for("the gateway to be thrown out and come back", newest.is_closed)
    wait_for("the gateway to be connected", lambda: gateway.status == "connected")


def test_a_port_in_use_and_an_address_that_is_not_here_are_said(site: Site) -> None:
    for host, port, code in (
        (LOOPBACK, site.port, "port.in_use"),
        ("192.0.2.1", 0, "port.refused"),
        ("no such host", 0, "port.refused"),
    ):
        with pytest.raises(SettingsError) as caught:
            EmbeddedBroker(host, port, Topics(), site.server.tls)
        assert caught.value.code == code
        assert caught.value.hint


def test_files_that_are_missing_are_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        EmbeddedBroker(LOOPBACK, 0, Topics(), TlsFiles(tmp_path / "a", tmp_path / "b", tmp_path / "c"))
    assert caught.value.code == "tls.files"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1"])
def test_it_listens_where_it_is_told_to_and_says_how_this_machine_gets_there(
    tmp_path: Path, host: str
) -> None:
    authority = TestAuthority(tmp_path)
    hosts = [LOOPBACK, "::1"]
    broker = EmbeddedBroker(host, 0, Topics(), authority.issue("broker", hosts=hosts).tls)
    gateway = open_gateway(broker.port, authority.issue("ctl-1").tls, broker.loopback)
    try:
        gateway.start(10)
        assert gateway.status == "connected"
    finally:
        gateway.close()
        broker.close()


def test_a_broker_that_has_ended_says_so_to_who_would_revoke_a_device(tmp_path: Path) -> None:
    broker = EmbeddedBroker(LOOPBACK, 0, Topics(), TestAuthority(tmp_path).issue("b", hosts=[LOOPBACK]).tls)
    broker.close()
    with pytest.raises(Unavailable) as caught:
        broker.revoke(DeviceId("pi-1"))
    assert caught.value.code == "broker.unreachable"
