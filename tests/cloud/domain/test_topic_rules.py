"""Who may say and hear what at the broker, and that covering means what it says."""

from itertools import product

import pytest

from fleet_cloud.domain.topic_rules import (
    TopicRules,
    controller_rules,
    covers,
    device_rules,
    is_filter,
    is_topic,
    matches,
    rules_of,
)
from fleet_shared.topics import Topics

TOPICS = Topics()
OWN = "fleet/v1/devices/pi-1"
OTHER = "fleet/v1/devices/pi-2"
CHANNELS = (
    "presence",
    "reported",
    "desired",
    "telemetry",
    "ack",
    "fetch",
    "chunk",
    "command/1",
    "response/1",
)
WRITTEN = {"presence", "reported", "telemetry", "fetch", "response/1"}
READ = {"desired", "ack", "chunk", "command/1"}
KEPT = {"presence", "reported"}


@pytest.fixture
def device() -> TopicRules:
    return device_rules(TOPICS, "pi-1")


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_device_writes_and_reads_its_own_topics_in_their_direction(
    device: TopicRules, channel: str
) -> None:
    assert device.may_publish(f"{OWN}/{channel}", retain=False) == (channel in WRITTEN)
    assert device.may_publish(f"{OWN}/{channel}", retain=True) == (channel in KEPT)
    assert device.may_subscribe(f"{OWN}/{channel}") == (channel in READ)
    assert device.may_read(f"{OWN}/{channel}") == (channel in READ)


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_device_reaches_no_topic_of_another(device: TopicRules, channel: str) -> None:
    topic = f"{OTHER}/{channel}"
    assert not device.may_publish(topic, retain=False)
    assert not device.may_publish(topic, retain=True)
    assert not device.may_subscribe(topic)
    assert not device.may_read(topic)


@pytest.mark.parametrize(
    "asked",
    [
        "#", "+", "/#", "+/#", "fleet/#", "fleet/v1/#", "fleet/v1/devices/#", "fleet/v1/devices/+/desired",
        "fleet/v1/+/pi-1/desired", f"{OWN}/#", f"{OWN}/+", f"{OWN}/desired/#", f"{OWN}/command/#",
        "fleet/v1/+", "fleet/v1/releases/#", "$SYS/#", "$share/g/fleet/v1/devices/pi-1/desired",
        f"{OWN}/desired#", "", f"{OWN}/desired\0", f"{OWN}/des+ired", f"{OWN}/#/desired",
    ],
)  # fmt: skip
def test_a_wildcard_gives_a_device_nothing_that_its_rules_do_not(device: TopicRules, asked: str) -> None:
    assert not device.may_subscribe(asked)


def test_a_device_may_ask_for_all_its_commands_and_the_newest_release(device: TopicRules) -> None:
    assert device.may_subscribe(f"{OWN}/command/+")
    assert device.may_subscribe(TOPICS.releases)
    assert not device.may_publish(TOPICS.releases, retain=True)
    assert not device.may_publish(f"{OWN}/response/1/2", retain=False)


def test_the_controller_has_everything_under_the_root_and_nothing_beside_it() -> None:
    controller = rules_of(TOPICS, "ctl-1")
    assert controller == controller_rules(TOPICS)
    for channel in CHANNELS:
        assert controller.may_publish(f"{OWN}/{channel}", retain=True)
        assert controller.may_subscribe(f"fleet/v1/devices/+/{channel}")
    for beside in ("fleet/v2/x", "other", "$SYS/x", "fleet/v1/devices/+/desired", ""):
        assert not controller.may_publish(beside, retain=False)
    for beside in ("#", "+/v1/#", "fleet/#", "$SYS/#"):
        assert not controller.may_subscribe(beside)


def test_the_root_is_a_field_and_a_broker_may_fill_in_the_name() -> None:
    rules = device_rules(Topics("site/a"), "%u")
    assert "site/a/devices/%u/presence" in rules.publish
    assert "site/a/devices/%u/desired" in rules.read
    assert "site/a/releases" in rules.read


LEVELS = ("a", "b", "", "+", "#")
NAMES = ["/".join(levels) for size in (1, 2, 3, 4) for levels in product(("a", "b", ""), repeat=size)]
FILTERS = ["/".join(levels) for size in (1, 2, 3) for levels in product(LEVELS, repeat=size)]


def test_covering_is_matching_of_all_that_the_other_matches() -> None:
    """Against the definition, over all small filters: topics one level deeper than any filter tell them
    apart. ``#`` alone is the same as ``+/#``, and is not seen as that: it is refused."""
    valid = [text for text in FILTERS if is_filter(text)]
    found = {text: frozenset(topic for topic in NAMES if matches(text, topic)) for text in valid}
    for pattern in valid:
        for asked in valid:
            expected = found[asked] <= found[pattern] and (asked != "#" or pattern == "#")
            assert covers(pattern, asked) == expected, (pattern, asked)


@pytest.mark.parametrize(
    ("pattern", "topic", "matched"),
    [
        ("sport/tennis/#", "sport/tennis", True),
        ("sport/tennis/+", "sport/tennis", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
    ],
)
def test_filters_match_as_the_standard_says(pattern: str, topic: str, matched: bool) -> None:
    assert matches(pattern, topic) == matched


def test_names_of_topics_and_filters() -> None:
    assert is_topic("a/b")
    assert not any(is_topic(text) for text in ("", "a/+", "#", "a\0b", "$SYS/a"))
    assert is_filter("a/+/#")
    assert not any(is_filter(text) for text in ("", "a/#/b", "a+", "#a", "a\0"))
