"""The topics as the protocol page writes them: whoever changes one cuts off every device in the field."""

import pytest

from fleet_shared.names import DeviceId
from fleet_shared.topics import TO_CLOUD, TO_DEVICE, Channel, DeviceTopic, Topics

PI = DeviceId("pi-1")
TABLE = {
    Channel.PRESENCE: ("fleet/v1/devices/pi-1/presence", "fleet/v1/devices/+/presence"),
    Channel.REPORTED: ("fleet/v1/devices/pi-1/reported", "fleet/v1/devices/+/reported"),
    Channel.DESIRED: ("fleet/v1/devices/pi-1/desired", "fleet/v1/devices/+/desired"),
    Channel.TELEMETRY: ("fleet/v1/devices/pi-1/telemetry", "fleet/v1/devices/+/telemetry"),
    Channel.ACK: ("fleet/v1/devices/pi-1/ack", "fleet/v1/devices/+/ack"),
    Channel.FETCH: ("fleet/v1/devices/pi-1/fetch", "fleet/v1/devices/+/fetch"),
    Channel.CHUNK: ("fleet/v1/devices/pi-1/chunk", "fleet/v1/devices/+/chunk"),
}


def test_the_table_has_every_channel() -> None:
    assert set(TABLE) == set(Channel)


@pytest.mark.parametrize("channel", list(Channel))
def test_each_channel_has_its_topic_and_filter(channel: Channel) -> None:
    topic, pattern = TABLE[channel]
    assert Topics().device(PI, channel) == topic
    assert Topics().every_device(channel) == pattern
    assert Topics().parse(topic) == DeviceTopic(PI, channel)


def test_who_writes_what() -> None:
    assert set(TO_CLOUD) == {Channel.PRESENCE, Channel.REPORTED, Channel.TELEMETRY, Channel.FETCH}
    assert set(TO_DEVICE) == {Channel.DESIRED, Channel.ACK, Channel.CHUNK}


def test_another_root_moves_all_topics() -> None:
    topics = Topics("acme/fleet")
    assert topics.device(PI, Channel.ACK) == "acme/fleet/devices/pi-1/ack"
    assert topics.every_device(Channel.ACK) == "acme/fleet/devices/+/ack"


def test_releases_have_one_topic_for_all() -> None:
    assert Topics("site/a").releases == "site/a/releases"
