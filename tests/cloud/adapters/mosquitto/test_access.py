"""Who gets into a real Mosquitto, what revocation does to a live session, and how rules come back."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet_cloud.adapters.mosquitto.access import HANDSHAKE_S, DynamicSecurity
from fleet_cloud.adapters.mosquitto.commands import Command
from fleet_cloud.adapters.mosquitto.configuration import START_STATE
from fleet_cloud.adapters.mosquitto.control import Control
from fleet_cloud.errors import Unavailable
from fleet_shared.names import DeviceId, Digest
from fleet_shared.topics import Channel
from tests.kit.broker_client import BrokerClient, Refused
from tests.kit.certificates import LOOPBACK, Party
from tests.kit.secure_mosquitto import (
    TOPICS,
    ControllerLine,
    RevokingAuthority,
    SecureMosquitto,
    administered,
    secure_mosquitto,
)
from tests.kit.waiting import wait_for

PI = DeviceId("pi-1")
PRESENCE = "fleet/v1/devices/pi-1/presence"
DESIRED = "fleet/v1/devices/pi-1/desired"
Administered = tuple[SecureMosquitto, DynamicSecurity, ControllerLine]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Administered]:
    with secure_mosquitto(tmp_path) as broker, administered(broker) as (access, line):
        yield broker, access, line


def enter(broker: SecureMosquitto, party: Party, client_id: str = PI) -> BrokerClient:
    """MQTT 5, which says what was refused."""
    return BrokerClient(broker.port, party.tls, client_id, mqtt5=True)


def may_speak(broker: SecureMosquitto, party: Party, name: DeviceId = PI) -> bool:
    """Tell whether a device gets in and may say that it is there."""
    try:
        with enter(broker, party, name) as client:
            return client.publish(TOPICS.device(name, Channel.PRESENCE), b"x") and client.subscribe(
                TOPICS.device(name, Channel.DESIRED)
            )
    except Refused:
        return False


def client_names(broker: SecureMosquitto) -> list[str]:
    state = json.loads(broker.place.state.read_text())
    return sorted(client["username"] for client in state["clients"])


def test_a_device_that_is_let_in_speaks_and_hears_and_one_that_is_not_does_neither(
    site: Administered,
) -> None:
    broker, access, line = site
    party = broker.issue(PI)
    assert not may_speak(broker, party)
    access.admit(PI, party.key_sha256)
    with enter(broker, party) as device:
        assert device.subscribe(DESIRED)
        assert line.send(DESIRED, b"run this", retain=False) is not None
        assert device.get() == (DESIRED, b"run this")
        assert device.publish(PRESENCE, b"here")
        wait_for("the controller to hear", lambda: (PRESENCE, b"here") in line.heard)
        access.admit(PI, party.key_sha256)
        assert device.is_connected()


def test_a_revoked_device_is_cut_within_2_s_and_does_not_come_back(site: Administered) -> None:
    broker, access, _ = site
    party, other = broker.issue(PI), broker.issue("pi-2")
    access.sync([(PI, party.key_sha256), (DeviceId("pi-2"), other.key_sha256)])
    with enter(broker, party) as device, enter(broker, other, "pi-2") as bystander:
        broker.authority.revoke(party)
        broker.write_revoked()
        started = time.monotonic()
        access.revoke(PI)
        device.wait_until_gone()
        assert time.monotonic() - started < 2
        for _ in range(3):
            with pytest.raises(Refused):
                enter(broker, party).__enter__()
        assert bystander.is_connected()
        assert bystander.publish("fleet/v1/devices/pi-2/presence", b"x")
    assert client_names(broker) == ["ctl-fleet", "pi-2"]
    access.revoke(PI)


def test_a_device_that_may_come_again_comes_in_at_once(site: Administered) -> None:
    broker, access, _ = site
    party = broker.issue(PI)
    access.admit(PI, party.key_sha256)
    broker.authority.revoke(party)
    broker.write_revoked()
    access.revoke(PI)
    assert not may_speak(broker, party)
    broker.authority.restore(party)
    broker.write_revoked()
    access.admit(PI, party.key_sha256)
    assert may_speak(broker, party)


def test_a_revoked_device_may_do_nothing_while_the_revocation_list_is_not_read(tmp_path: Path) -> None:
    """Mosquitto asks dynamic security about no client with a certificate: a deleted one gets in. It may say
    and hear nothing, and the next revocation cuts it."""
    with secure_mosquitto(tmp_path) as broker, administered(broker, command="false") as (access, line):
        party = broker.issue(PI)
        with pytest.raises(Unavailable) as caught:
            access.revoke(PI)
        assert caught.value.code == "broker.reload"
        with enter(broker, party) as device:
            assert not device.publish(PRESENCE, b"still here")
            assert not device.subscribe(DESIRED)
            with pytest.raises(Unavailable):
                access.revoke(PI)
            device.wait_until_gone()
        assert not [topic for topic, _ in line.heard if topic.startswith("fleet/v1/devices/pi-1")]


def test_whoever_was_revoked_while_the_broker_was_away_is_cut_also_where_no_list_is_read(
    tmp_path: Path,
) -> None:
    """A command that may not run is a mistake of every first day."""
    with secure_mosquitto(tmp_path) as broker:
        party, other = broker.issue(PI), broker.issue("pi-2")
        wanted = [(DeviceId("pi-2"), other.key_sha256)]
        with administered(broker) as (access, _):
            access.sync([(PI, party.key_sha256), *wanted])
        with administered(broker, command="false") as (access, _), enter(broker, party) as device:
            changed = broker.authority.issue("pi-2", folder=broker.folder / "changed").key_sha256
            with pytest.raises(Unavailable) as caught:
                access.sync([(DeviceId("pi-2"), changed)])
            assert caught.value.code == "broker.reload"
            device.wait_until_gone()
        assert client_names(broker) == ["ctl-fleet", "pi-2"], "who is to come back stays until it can"


def test_another_key_cuts_off_what_the_device_had_before(site: Administered) -> None:
    broker, access, _ = site
    old = broker.issue(PI)
    access.admit(PI, old.key_sha256)
    with enter(broker, old) as device:
        new = broker.authority.issue(PI, folder=broker.folder / "new")
        broker.authority.revoke(old)
        broker.write_revoked()
        access.admit(PI, new.key_sha256)
        device.wait_until_gone()
    assert may_speak(broker, new)
    assert not may_speak(broker, old)


@dataclass
class Moving:
    """Seconds that tests move."""

    at_s: float = 0.0

    def __call__(self) -> float:
        return self.at_s


@pytest.mark.parametrize("end", ["revoked", "another key"])
def test_who_shows_an_older_key_on_a_connection_from_before_the_cut_is_cut_again(
    tmp_path: Path, end: str
) -> None:
    """A connection that was opened before is judged by the older list, if both are of the same second."""
    clock = Moving()
    with secure_mosquitto(tmp_path) as broker, administered(broker, clock=clock) as (access, _):
        old, new = broker.issue(PI), broker.authority.issue(PI, folder=broker.folder / "new")
        access.admit(PI, old.key_sha256)
        context = ssl.create_default_context(cafile=str(old.tls.authorities))
        context.load_cert_chain(old.tls.certificate, old.tls.key)
        plain = socket.create_connection((LOOPBACK, broker.port), timeout=20)
        wait_for("the broker to accept", lambda: broker.count_connections() > 1)
        broker.authority.revoke(old)
        broker.write_revoked()
        if end == "revoked":
            access.revoke(PI)
        else:
            access.admit(PI, new.key_sha256)
        with shake_hands(plain, context) as late:
            access.refresh()
            late.sendall(b"\xc0\x00")
            assert late.recv(2) == b"\xd0\x00"
            clock.at_s = HANDSHAKE_S + 1
            access.refresh()
            assert late.recv(2) == b""
        assert may_speak(broker, new) == (end == "another key")
        assert not may_speak(broker, old)


def test_sync_makes_the_broker_as_it_should_be_and_leaves_alone_what_is_right(site: Administered) -> None:
    broker, access, _ = site
    names = [DeviceId(f"pi-{number}") for number in range(1, 8)]
    keys = {name: broker.issue(name).key_sha256 for name in names}
    access.sync([(name, keys[name]) for name in names[:5]])
    with enter(broker, broker.parties[PI]) as kept, enter(broker, broker.parties["pi-5"], "pi-5") as dropped:
        changed = broker.authority.issue("pi-2", folder=broker.folder / "changed").key_sha256
        wanted = {**keys, names[1]: changed}
        del wanted[names[4]]
        access.sync(wanted.items())
        dropped.wait_until_gone()
        assert kept.is_connected()
    assert client_names(broker) == ["ctl-fleet", *(name for name in sorted(names) if name != "pi-5")]
    before = broker.place.state.stat().st_mtime_ns
    access.sync(wanted.items())
    assert broker.place.state.stat().st_mtime_ns == before


def test_a_list_that_is_older_than_a_revocation_lets_nobody_back_in(site: Administered) -> None:
    broker, access, _ = site
    key = broker.issue(PI).key_sha256
    access.admit(PI, key)
    access.revoke(PI)
    access.sync([(PI, key)])
    assert client_names(broker) == ["ctl-fleet"]
    access.admit(PI, key)
    access.sync([])
    assert client_names(broker) == ["ctl-fleet", "pi-1"]


def test_a_broker_that_lost_its_rules_starts_with_the_controller_and_gets_the_devices_again(
    site: Administered,
) -> None:
    broker, access, line = site
    party = broker.issue(PI)
    access.sync([(PI, party.key_sha256)])
    broker.end()
    broker.place.state.write_bytes((broker.place.folder / START_STATE).read_bytes())
    broker.start()
    line.wait_for_subscription(2)
    assert not may_speak(broker, party)
    access.sync([(PI, party.key_sha256)])
    assert may_speak(broker, party)


def test_a_broker_that_is_away_is_said_so(site: Administered) -> None:
    broker, access, line = site
    broker.end()
    wait_for("the line to notice", lambda: line.send("fleet/v1/x", b"", retain=False) is None)
    with pytest.raises(Unavailable):
        access.revoke(PI)
    with pytest.raises(Unavailable):
        access.admit(PI, Digest("0" * 64))
    with pytest.raises(Unavailable):
        access.sync([])


def test_what_a_device_may_not_hear_is_not_sent_to_it_though_it_has_subscribed(tmp_path: Path) -> None:
    """Subscribing is one right and hearing is another: a subscription of an earlier time carries nothing."""
    with secure_mosquitto(tmp_path, [PI]) as broker:
        line = ControllerLine(broker)
        control = Control(line)
        with line.running():
            rule = {"rolename": "device-pi-1", "acltype": "publishClientReceive", "topic": DESIRED}
            control.run([Command("removeRoleACL", rule)])
            with enter(broker, broker.parties[PI]) as device:
                assert device.subscribe(DESIRED)
                assert device.subscribe("fleet/v1/devices/pi-1/ack")
                line.send(DESIRED, b"not for it", retain=False)
                line.send("fleet/v1/devices/pi-1/ack", b"for it", retain=False)
                assert device.get() == ("fleet/v1/devices/pi-1/ack", b"for it")


def test_the_authority_is_replaced_and_nobody_is_cut_off(site: Administered, tmp_path: Path) -> None:
    broker, access, _ = site
    old, newer = broker.issue(PI), RevokingAuthority(tmp_path / "newer", "Newer CA")
    new = newer.issue("pi-2", believes=[newer, broker.authority])
    old.tls.authorities.write_bytes(newer.pem + broker.authority.pem)
    access.sync([(PI, old.key_sha256), (DeviceId("pi-2"), new.key_sha256)])
    with enter(broker, old) as device:
        with pytest.raises(Refused):
            enter(broker, new, "pi-2").__enter__()
        broker.source.authorities.write_bytes(newer.pem + broker.authority.pem)
        broker.source.revoked.write_bytes(newer.crl_pem() + broker.authority.crl_pem())
        access.refresh()
        wait_for("the newer one to be believed", lambda: may_speak(broker, new, DeviceId("pi-2")))
        assert device.publish(PRESENCE, b"x")
    assert may_speak(broker, old)
    server = newer.issue("server", hosts=[LOOPBACK]).tls
    broker.source.authorities.write_bytes(newer.pem)
    broker.source.revoked.write_bytes(newer.crl_pem())
    broker.source.key.write_bytes(server.key.read_bytes())
    broker.source.certificate.write_bytes(server.certificate.read_bytes())
    access.refresh()
    wait_for("the older one to be believed no more", lambda: not may_speak(broker, old))
    assert may_speak(broker, new, DeviceId("pi-2"))


def test_a_device_cannot_administer_the_broker(site: Administered) -> None:
    broker, access, _ = site
    party = broker.issue(PI)
    access.admit(PI, party.key_sha256)
    before = broker.place.state.read_bytes()
    command = {"command": "addClientRole", "username": PI, "rolename": "controller"}
    with enter(broker, party) as device:
        assert not device.publish(
            "$CONTROL/dynamic-security/v1", json.dumps({"commands": [command]}).encode()
        )
        assert not device.subscribe("$CONTROL/dynamic-security/v1/response")
    assert broker.place.state.read_bytes() == before


def test_a_tls_session_is_not_resumed_past_a_revocation(site: Administered) -> None:
    """Who resumes a session shows no certificate that could be found revoked."""
    broker, access, _ = site
    party = broker.issue(PI)
    access.admit(PI, party.key_sha256)
    context = ssl.create_default_context(cafile=str(party.tls.authorities))
    context.load_cert_chain(party.tls.certificate, party.tls.key)
    with connected_raw(broker, context, None) as first:
        session = first.session
    with connected_raw(broker, context, session) as second:
        assert second.session_reused
    broker.authority.revoke(party)
    broker.write_revoked()
    access.revoke(PI)
    with pytest.raises((OSError, EOFError)), connected_raw(broker, context, session):
        pass


@contextmanager
def connected_raw(
    broker: SecureMosquitto, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> Iterator[ssl.SSLSocket]:
    """A connection that the broker has accepted: by then a session to resume has come, too."""
    plain = socket.create_connection((LOOPBACK, broker.port), timeout=20)
    with shake_hands(plain, context, session) as connection:
        yield connection


@contextmanager
def shake_hands(
    plain: socket.socket, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Iterator[ssl.SSLSocket]:
    with context.wrap_socket(plain, server_hostname=LOOPBACK, session=session) as connection:
        connection.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x14\x00\x04pi-1")
        if not connection.recv(4):
            raise EOFError
        yield connection
