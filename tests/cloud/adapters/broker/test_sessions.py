"""Sessions from their beginning to their end: the newest connection of a client has its name, the will comes
when it must and only then, and who is revoked is gone at once and for good."""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from fleet_cloud.adapters.broker import broker as broker_module
from fleet_cloud.adapters.broker.admission import Code
from fleet_cloud.adapters.broker.identity import Identity, parse_identity, read_identity
from fleet_shared.names import DeviceId
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

REVOKED = bytes([0x20, 2, 0, Code.NOT_AUTHORIZED])
WILL = (f"{PI_1}/presence", b"offline")
EVERYTHING = [("fleet/v1/#", 1)]


def with_will(client_id: str = "pi-1", keepalive_s: int = 60) -> bytes:
    more = text(WILL[0]) + text(WILL[1])
    return connect_packet(client_id, flags=2 | 4 | 8 | 0x20, keepalive_s=keepalive_s, more=more)


def test_the_newest_connection_has_the_name_and_the_older_one_is_closed_and_no_longer_heard(
    site: Site,
) -> None:
    with site.client("ctl-1", subscribe=EVERYTHING) as controller, site.raw("pi-1") as older:
        older.send(with_will(), subscribe_packet(1, (f"{PI_1}/desired", 0)))
        assert older.read(4 + 5)[:4] == CONNACK_OK
        with site.client("pi-1", subscribe=[(f"{PI_1}/desired", 1)]) as newer:
            newer.publish(f"{PI_1}/presence", b"online", retain=True)
            assert older.is_closed()
            assert [controller.get()[1], controller.get()[1]] == [b"offline", b"online"]
            controller.publish(f"{PI_1}/desired", b"to the newer")
            assert newer.get() == (f"{PI_1}/desired", b"to the newer")
            assert newer.is_alive(f"{PI_1}/telemetry", b"still here", controller)
    with site.client("ctl-1", subscribe=[(f"{PI_1}/presence", 1)]) as later:
        assert later.get() == (f"{PI_1}/presence", b"online")


def test_the_end_of_an_older_connection_takes_nothing_from_the_newer(site: Site) -> None:
    with site.client("ctl-1") as controller:
        for _ in range(5):
            older = site.raw("pi-1")
            older.send(connect_packet("pi-1"), subscribe_packet(1, (f"{PI_1}/desired", 0)))
            assert older.read(4 + 5)[:4] == CONNACK_OK
            with site.client("pi-1", subscribe=[(f"{PI_1}/desired", 1)]) as newer:
                older.socket.close()
                controller.publish(f"{PI_1}/desired", b"x")
                assert newer.get() == (f"{PI_1}/desired", b"x")


def test_nothing_is_inherited_from_an_earlier_session(site: Site) -> None:
    with site.client("ctl-1") as controller:
        with site.raw("pi-1") as first:
            first.send(connect_packet("pi-1", flags=0), subscribe_packet(1, (f"{PI_1}/desired", 1)))
            assert first.read(4 + 5)[:4] == CONNACK_OK
        with site.raw("pi-1") as second:
            second.send(connect_packet("pi-1", flags=0))
            assert second.read(4) == CONNACK_OK
            controller.publish(f"{PI_1}/desired", b"x")
            second.send(packet(0xC0))
            assert second.read(2) == packet(0xD0)


def vanish(client: RawClient) -> None:
    client.socket.close()


def break_rules(client: RawClient) -> None:
    client.send(packet(0xF0))


def repeat_connect(client: RawClient) -> None:
    client.send(connect_packet("pi-1"))


def fall_silent(client: RawClient) -> None:
    """Keep-alive is a second."""


@pytest.mark.parametrize("end", [vanish, break_rules, repeat_connect, fall_silent])
def test_the_will_is_sent_and_kept_when_a_client_ends_without_goodbye(
    site: Site, end: Callable[[RawClient], None]
) -> None:
    with site.client("ctl-1", subscribe=EVERYTHING) as controller, site.raw("pi-1") as device:
        device.send(with_will(keepalive_s=1))
        assert device.read(4) == CONNACK_OK
        end(device)
        assert controller.get() == WILL
        with site.client("ctl-1", subscribe=EVERYTHING) as later:
            assert later.get() == WILL


@pytest.mark.parametrize("separate", [True, False])
def test_a_client_that_says_goodbye_leaves_no_will(site: Site, separate: bool) -> None:
    """Also when CONNECT, DISCONNECT and the end come in one piece, which amqtt does not see."""
    with site.client("ctl-1", subscribe=EVERYTHING) as controller:
        with site.raw("pi-1") as device:
            if separate:
                device.send(with_will())
                assert device.read(4) == CONNACK_OK
                device.send(packet(0xE0))
            else:
                device.send(with_will() + packet(0xE0))
                assert device.read(4) == CONNACK_OK
            assert device.is_closed()
        controller.publish(f"{PI_2}/ack", b"next")
        assert controller.get() == (f"{PI_2}/ack", b"next")


def test_what_a_client_said_before_it_went_is_heard_to_its_goodbye(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the broker comes to it only after the end: here for the controller's sake."""
    broker, roomy = site.broker._broker, asyncio.Event()
    monkeypatch.setattr(broker, "room", roomy.wait)
    with site.client("ctl-1", subscribe=EVERYTHING) as controller:
        with site.raw("pi-1") as device:
            device.send(with_will())
            assert device.read(4) == CONNACK_OK
            numbers = [b"%d" % number for number in range(20)]
            device.send(*(publish_packet(f"{PI_1}/telemetry", number) for number in numbers), packet(0xE0))
        writer = broker._connections["pi-1"]._wire._writer
        wait_for("the broker to know of the end", writer.is_closing)
        site.broker._loop.call_soon_threadsafe(roomy.set)
        assert [controller.get() for _ in numbers] == [(f"{PI_1}/telemetry", number) for number in numbers]
        wait_for("the session to end", lambda: "pi-1" not in broker._connections)
        assert controller.messages.empty()


def test_a_silent_client_that_pings_is_not_silent(site: Site) -> None:
    with site.raw("pi-1") as device:
        device.send(connect_packet("pi-1", keepalive_s=1))
        assert device.read(4) == CONNACK_OK
        ends = time.monotonic() + 2
        while time.monotonic() < ends:
            device.send(packet(0xC0))
            assert device.read(2) == packet(0xD0)
            time.sleep(0.5)


def test_revocation_ends_the_live_session_within_two_seconds_and_for_good(site: Site) -> None:
    with (
        site.client("ctl-1", subscribe=EVERYTHING) as controller,
        site.client("pi-2") as other,
        site.client("pi-1", subscribe=[(f"{PI_1}/desired", 1)], will=WILL) as device,
    ):
        started = time.monotonic()
        site.broker.revoke(DeviceId("pi-1"))
        device.wait_until_gone(2)
        assert time.monotonic() - started < 2
        assert controller.get() == WILL
        for _ in range(3):
            with site.raw("pi-1") as again:
                again.send(connect_packet("pi-1"), publish_packet(f"{PI_1}/presence", b"x"))
                assert again.read(5) == REVOKED
        assert other.is_alive(f"{PI_2}/presence", b"here", controller)
        site.broker.revoke(DeviceId("pi-1"))


def test_what_a_revoked_device_had_sent_already_is_not_heard_after_its_revocation(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last packets may wait in the broker, unread, when it is cut off: here for the controller's sake."""
    broker, roomy = site.broker._broker, asyncio.Event()
    monkeypatch.setattr(broker, "room", roomy.wait)
    with site.client("ctl-1", subscribe=EVERYTHING) as controller, site.raw("pi-1") as device:
        device.send(connect_packet("pi-1"))
        assert device.read(4) == CONNACK_OK
        device.send(*[publish_packet(f"{PI_1}/telemetry", b"unread")] * 20)
        wire = broker._connections["pi-1"]._wire
        wait_for("packets to wait in the broker", lambda: len(vars(wire._reader)["_buffer"]) > 500)
        site.broker.revoke(DeviceId("pi-1"))
        site.broker._loop.call_soon_threadsafe(roomy.set)
        assert device.is_closed()
        controller.publish(f"{PI_2}/ack", b"after")
        assert controller.get() == (f"{PI_2}/ack", b"after")


def test_another_key_for_a_device_cuts_off_the_one_before(site: Site) -> None:
    second = site.authority.issue("pi-1", folder=site.folder / "second")
    with site.client("pi-1") as device:
        site.broker.admit(DeviceId("pi-1"), site.parties["pi-1"].key_sha256)
        assert device.mqtt.is_connected()
        site.broker.admit(DeviceId("pi-1"), second.key_sha256)
        device.wait_until_gone(2)
    with site.raw("pi-1") as old:
        old.send(connect_packet("pi-1"))
        assert old.read(5) == REVOKED
    with RawClient(site.port, second.tls) as new:
        new.send(connect_packet("pi-1"))
        assert new.read(4) == CONNACK_OK


def test_a_sync_cuts_off_who_is_not_in_it_and_nobody_else(site: Site) -> None:
    with (
        site.client("ctl-1", subscribe=EVERYTHING) as controller,
        site.client("pi-1") as first,
        site.client("pi-2") as second,
    ):
        site.broker.sync([(DeviceId("pi-2"), site.parties["pi-2"].key_sha256)])
        first.wait_until_gone(2)
        assert second.is_alive(f"{PI_2}/presence", b"here", controller)
    with site.raw("pi-1") as again:
        again.send(connect_packet("pi-1"))
        assert again.read(5) == REVOKED


def test_a_session_does_not_outlive_its_certificate(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_soon_ended(connection: ssl.SSLObject | None) -> Identity | None:
        found = read_identity(connection)
        return found and replace(found, ends_s=time.time() + (0.3 if found.name == "pi-1" else 60))

    monkeypatch.setattr(broker_module, "read_identity", read_soon_ended)
    with site.client("ctl-1", subscribe=EVERYTHING) as controller, site.raw("pi-1") as device:
        device.send(with_will())
        assert device.read(4) == CONNACK_OK
        assert controller.get() == WILL
        assert device.is_closed()


def test_an_identity_is_what_the_certificate_says(site: Site) -> None:
    party = site.parties["pi-1"]
    found = parse_identity(ssl.PEM_cert_to_DER_cert(party.tls.certificate.read_text()))
    assert found is not None
    assert (found.name, found.key) == ("pi-1", party.key_sha256)
    assert found.ends_s == pytest.approx(time.time() + 86_400, abs=600)
