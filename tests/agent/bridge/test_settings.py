"""bridge.toml: what is understood, and what is refused before anything is done."""

from pathlib import Path

import pytest

from fleet_agent.bridge.main import build_bridge
from fleet_agent.bridge.settings import (
    BridgeSettings,
    BrokerSettings,
    Route,
    load_bridge_settings,
    matches,
    overlap,
)
from fleet_agent.errors import SettingsError

ROUTE = '[[route]]\ninput = "in/+"\noutput = "out/{topic}"\nerrors = "err"\nmodel = "m"\n'


def load(folder: Path, text: str) -> BridgeSettings:
    (folder / "bridge.toml").write_text(text)
    return load_bridge_settings(folder / "bridge.toml")


def test_a_route_suffices_and_the_rest_has_defaults(tmp_path: Path) -> None:
    found = load(tmp_path, ROUTE)
    assert found.route == (Route(input="in/+", output="out/{topic}", errors="err", model="m"),)
    assert found.broker == BrokerSettings()
    assert (found.queue_messages, found.route[0].format, found.broker.port) == (16, "json", 1883)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "route", "route"),
        (ROUTE + "[broker]\nhosst = 'x'", "hosst", "'host'"),
        ("quue_messages = 3\n" + ROUTE, "quue_messages", "'queue_messages'"),
        (ROUTE + "fromat = 'json'", "fromat", "'format'"),
        (ROUTE + "format = 'jpeg'", "jpeg", "docs/sources.md"),
        ("queue_messages = 0\n" + ROUTE, ">= 1", "queue_messages"),
        ("worker_timeout_s = nan\n" + ROUTE, "worker_timeout_s", "worker_timeout_s"),
        (ROUTE + "[broker]\nport = 70000", "65535", "port"),
        (ROUTE + "[broker]\nport = '1883'", "str", "port"),
        (ROUTE.replace("in/+", "in/a+"), "no topic filter", "for example"),
        (ROUTE.replace("in/+", "#/in"), "no topic filter", "for example"),
        (ROUTE.replace("out/{topic}", "out/+"), "cannot be published", "no + and no #"),
        (ROUTE.replace("out/{topic}", "in/out"), "read again", "for ever"),
        (ROUTE.replace("in/+", "#"), "read again", "for ever"),
        (ROUTE.replace('"err"', '"in/err"'), "read again", "for ever"),
        (ROUTE.replace("in/+", "$share/g/out/#"), "read again", "for ever"),
        ("status_topic = 'in/status'\n" + ROUTE, "read again", "for ever"),
        (ROUTE + ROUTE.replace("in/+", "out/in/+"), "read again", "for ever"),
        (ROUTE.replace("in/+", "+/b") + ROUTE.replace("in/+", "out/a/b"), "read again", "for ever"),
        (ROUTE.replace("out/", "out-") + ROUTE.replace("in/+", "out-in/7"), "read again", "for ever"),
        (ROUTE + ROUTE, "the same topics", "one route"),
        (ROUTE + ROUTE.replace("in/+", "in/#"), "the same topics", "one route"),
        (ROUTE + "[broker]\nkey_file = 'k'", "belong together", "both"),
        (ROUTE + "[broker]\npassword_file = 'k'", "without username", "username"),
        ("a = [", "cannot be read", "TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert caught.value.code == "bridge.settings"
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "bridge.toml" in caught.value.message


@pytest.mark.parametrize(
    "lines",
    [
        "[broker]\nusername = 'u'\npassword_file = '/nowhere/p'",
        "[broker]\nca_file = '/nowhere/ca.pem'",
    ],
)
def test_credentials_that_are_not_there_are_said_so_at_the_start(tmp_path: Path, lines: str) -> None:
    with pytest.raises(SettingsError, match="credentials") as caught:
        build_bridge(load(tmp_path, ROUTE + lines), tmp_path / "s")
    assert caught.value.code == "bridge.settings"


def test_a_missing_file_and_a_worker_that_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_bridge_settings(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="no address"):
        build_bridge(load(tmp_path, "worker = 'ftp://x'\n" + ROUTE), tmp_path / "s")


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a", True),
        ("#", "$SYS/a", False),
        ("+/a", "$SYS/a", False),
        ("$SYS/#", "$SYS/a", True),
        ("+", "/a", False),
        ("/+", "/a", True),
        ("+/+", "/a", True),
        ("$share/bridges/a/+", "a/b", True),
        ("$share/bridges/a/+", "b/b", False),
    ],
)
def test_filters_as_mqtt_defines_them(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a/+", "a/#", True),
        ("a/+", "+/b", True),
        ("a/+/c", "a/b/+", True),
        ("a/#", "a", True),
        ("#", "a/b", True),
        ("$share/g/a/+", "a/b", True),
        ("a/+", "b/+", False),
        ("a/+/json", "a/+/image", False),
        ("a", "a/b", False),
        ("a/b/#", "a", False),
        ("#", "$SYS/a", False),
        ("$SYS/+", "$SYS/a", True),
    ],
)
def test_filters_that_name_a_topic_in_common(one: str, other: str, expected: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is expected


def test_the_example_of_the_documentation_is_one() -> None:
    found = load_bridge_settings(Path("docs/examples/bridge.toml"))
    assert [route.format for route in found.route] == ["json", "image"]
