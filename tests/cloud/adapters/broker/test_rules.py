"""What a client that was let in may say and hear, on real sockets: by publish, by subscription, by wildcard,
by what the broker had kept. Each time the other device hears nothing but what was meant for it."""

import pytest

from fleet_shared.topics import TO_CLOUD, Channel
from tests.kit.secure_broker import (
    PI_1,
    PI_2,
    Site,
    connect_packet,
    packet,
    publish_packet,
    subscribe_packet,
    text,
)

FOREIGN = [f"{PI_2}/{channel.value}" for channel in Channel] + [
    f"{PI_2}/command/1", f"{PI_2}/response/1", f"{PI_1}/desired", f"{PI_1}/ack", f"{PI_1}/chunk",
    "fleet/v1/releases", "fleet/v1/devices/ctl-1/presence", "elsewhere", "$SYS/broker", "$share/g/x",
]  # fmt: skip
WIDE = [
    "#", "+/#", "fleet/#", "fleet/v1/#", "fleet/v1/devices/#", "fleet/v1/devices/+/desired", f"{PI_2}/#",
    f"{PI_1}/#", f"{PI_1}/+", f"{PI_1}/presence", "$SYS/#", "$share/g/fleet/v1/#", "fleet/v1/+",
    "a+", "#/a", "", "x" * 600,
]  # fmt: skip
REFUSED = 0x80


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_a_device_can_publish_on_no_topic_but_its_own(site: Site, qos: int, retain: bool) -> None:
    reads = [(f"{PI_2}/{channel}", 1) for channel in ("desired", "ack", "chunk", "command/+")]
    with (
        site.client("ctl-1", subscribe=[("fleet/v1/#", 1)]) as controller,
        site.client("pi-2", subscribe=[*reads, ("fleet/v1/releases", 1)]) as other,
        site.client("pi-1") as device,
    ):
        for topic in FOREIGN:
            device.publish(topic, b"forged", qos=qos, retain=retain)
        device.publish(f"{PI_1}/presence", b"own", qos=1)
        assert controller.get() == (f"{PI_1}/presence", b"own")
        controller.publish(f"{PI_2}/desired", b"true")
        assert other.get() == (f"{PI_2}/desired", b"true")
    with site.client("ctl-1", subscribe=[("fleet/v1/#", 1)]) as later:
        later.publish(f"{PI_2}/desired", b"nothing was kept")
        assert later.get() == (f"{PI_2}/desired", b"nothing was kept")


def test_a_device_can_subscribe_to_nothing_that_its_rules_do_not_cover(site: Site) -> None:
    with site.client("ctl-1") as controller, site.raw("pi-1") as device:
        device.send(
            connect_packet("pi-1"), subscribe_packet(7, *((asked, 1) for asked in [*FOREIGN[:7], *WIDE]))
        )
        count = 7 + len(WIDE)
        assert device.read(4) == bytes([0x20, 2, 0, 0])
        assert device.read(4 + count) == packet(0x90, bytes([0, 7]) + bytes([REFUSED] * count))
        device.send(subscribe_packet(8, (f"{PI_1}/desired", 0)))
        assert device.read(5) == packet(0x90, bytes([0, 8, 0]))
        for topic in (f"{PI_2}/desired", "fleet/v1/releases", f"{PI_1}/presence", f"{PI_1}/desired"):
            controller.publish(topic, b"x")
        expected = publish_packet(f"{PI_1}/desired", b"x")
        assert device.read(len(expected)) == expected


def test_a_device_hears_its_own_topics_and_speaks_on_them(site: Site) -> None:
    reads = [(f"{PI_1}/{channel}", 2) for channel in ("desired", "ack", "chunk", "command/+")]
    with site.client("ctl-1", subscribe=[("fleet/v1/#", 1)]) as controller, site.client("pi-1") as device:
        assert device.subscribe(*reads, ("fleet/v1/releases", 1)) == [1] * 5
        for topic in (*(topic.replace("+", "4") for topic, _ in reads), "fleet/v1/releases"):
            controller.publish(topic, b"down", retain=True)
            assert device.get() == (topic, b"down")
            assert controller.get() == (topic, b"down")
        for channel in TO_CLOUD:
            device.publish(f"{PI_1}/{channel.value}", b"up", qos=2)
            assert controller.get() == (f"{PI_1}/{channel.value}", b"up")
        device.publish(f"{PI_1}/response/4", b"up")
        assert controller.get() == (f"{PI_1}/response/4", b"up")


def test_what_is_kept_goes_to_the_subscriber_alone_and_by_its_own_filters(site: Site) -> None:
    """amqtt sends what is kept for everybody's filters to each client that connects."""
    with site.client("ctl-1", subscribe=[("fleet/v1/#", 1)]) as controller:
        for device in ("pi-1", "pi-2"):
            controller.publish(f"fleet/v1/devices/{device}/desired", device.encode(), retain=True)
        with site.client("pi-2", subscribe=[(f"{PI_2}/desired", 1)]) as other:
            assert other.get() == (f"{PI_2}/desired", b"pi-2")
            with site.raw("pi-1") as device_1:
                device_1.send(
                    connect_packet("pi-1"),
                    packet(0xC0),
                    subscribe_packet(1, (f"{PI_1}/chunk", 1)),
                    packet(0xC0),
                )
                expected = bytes([0x20, 2, 0, 0]) + packet(0xD0) + bytes([0x90, 3, 0, 1, 1]) + packet(0xD0)
                assert device_1.read(len(expected)) == expected
                device_1.send(subscribe_packet(2, (f"{PI_1}/desired", 0)), packet(0xC0))
                kept = bytes([0x90, 3, 0, 2, 0]), publish_packet(f"{PI_1}/desired", b"pi-1", flags=1)
                found = device_1.read(sum(map(len, kept)) + 2)
                assert sorted(found) == sorted(b"".join(kept) + packet(0xD0))
            assert other.messages.empty()


def test_an_empty_message_clears_what_is_kept(site: Site) -> None:
    with site.client("pi-1") as device:
        device.publish(f"{PI_1}/presence", b"x", retain=True)
        device.publish(f"{PI_1}/presence", b"", retain=True)
        device.publish(f"{PI_1}/reported", b"y", retain=True)
    with site.client("ctl-1", subscribe=[("fleet/v1/#", 1)]) as controller:
        assert controller.get() == (f"{PI_1}/reported", b"y")


def test_a_device_has_nothing_kept_but_its_pictures(site: Site) -> None:
    with site.client("pi-1") as device, site.client("ctl-1", subscribe=[("fleet/v1/#", 1)]) as controller:
        device.publish(f"{PI_1}/telemetry", b"x", retain=True)
        device.publish(f"{PI_1}/response/1", b"x", retain=True)
        device.publish(f"{PI_1}/reported", b"y", retain=True)
        assert controller.get() == (f"{PI_1}/reported", b"y")
    with site.client("ctl-1", subscribe=[("fleet/v1/#", 1)]) as later:
        assert later.get() == (f"{PI_1}/reported", b"y")


def test_the_controller_has_nothing_outside_of_the_root(site: Site) -> None:
    with site.client("ctl-1", subscribe=[("fleet/v1/devices/+/ack", 1)]) as controller:
        assert controller.subscribe(("#", 1), ("other/#", 1), ("$SYS/#", 1), ("fleet/v1/x", 0)) == [
            REFUSED, REFUSED, REFUSED, 0,
        ]  # fmt: skip
        controller.publish("other/x", b"x")
        controller.publish(f"{PI_1}/ack", b"y")
        assert controller.get() == (f"{PI_1}/ack", b"y")


@pytest.mark.parametrize("topic", ["fleet/v1/devices/+/presence", f"{PI_1}/#", "#", ""])
def test_who_publishes_on_a_wildcard_is_cut_off(site: Site, topic: str) -> None:
    with site.client("ctl-1", subscribe=[("fleet/v1/#", 1)]) as controller, site.raw("pi-1") as device:
        device.send(connect_packet("pi-1"), publish_packet(topic, b"x"))
        assert device.is_closed()
        controller.publish(f"{PI_2}/ack", b"y")
        assert controller.get() == (f"{PI_2}/ack", b"y")


def test_a_message_of_quality_2_arrives_once_however_often_it_is_sent(site: Site) -> None:
    with site.client("ctl-1", subscribe=[(f"{PI_1}/+", 2)]) as controller, site.raw("pi-1") as device:
        device.send(connect_packet("pi-1"))
        device.send(publish_packet(f"{PI_1}/fetch", b"once", flags=4, packet_id=9))
        device.send(publish_packet(f"{PI_1}/fetch", b"once", flags=4 | 8, packet_id=9))
        device.send(packet(0x62, bytes([0, 9])), packet(0x62, bytes([0, 9])))
        answers = bytes([0x20, 2, 0, 0]) + bytes([0x50, 2, 0, 9]) * 2 + bytes([0x70, 2, 0, 9]) * 2
        assert device.read(len(answers)) == answers
        device.send(publish_packet(f"{PI_1}/fetch", b"twice", flags=4, packet_id=9))
        assert [controller.get()[1], controller.get()[1]] == [b"once", b"twice"]
        assert controller.messages.empty()


def test_a_subscription_is_ended_and_a_second_one_to_the_same_filter_replaces_the_first(site: Site) -> None:
    with site.client("ctl-1") as controller, site.raw("pi-1") as device:
        device.send(connect_packet("pi-1"), subscribe_packet(1, (f"{PI_1}/desired", 1)))
        device.send(subscribe_packet(2, (f"{PI_1}/desired", 0)), subscribe_packet(3, (f"{PI_1}/ack", 0)))
        assert device.read(4 + 15)
        controller.publish(f"{PI_1}/desired", b"1")
        expected = publish_packet(f"{PI_1}/desired", b"1")
        assert device.read(len(expected)) == expected
        device.send(packet(0xA2, bytes([0, 4]) + text(f"{PI_1}/desired")))
        assert device.read(4) == bytes([0xB0, 2, 0, 4])
        controller.publish(f"{PI_1}/desired", b"2")
        controller.publish(f"{PI_1}/ack", b"3")
        expected = publish_packet(f"{PI_1}/ack", b"3")
        assert device.read(len(expected)) == expected
