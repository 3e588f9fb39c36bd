"""Settings: what is refused, what is shown, and that no secret ever is."""

import logging
from pathlib import Path

import pytest

from fleet_cloud.adapters.db.engine import open_engine
from fleet_cloud.adapters.mqtt.gateway import BrokerEndpoint
from fleet_cloud.addresses import BrokerUrl, parse_broker, parse_s3
from fleet_cloud.bootstrap.brokers import advertise_broker
from fleet_cloud.errors import SettingsError
from fleet_cloud.masking import mask_url
from fleet_cloud.services.ports import TlsFiles
from fleet_cloud.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p/a#s?s@h:1/db?x=y", "postgresql://u:********@h:1/db?x=y"),
        ("mqtt://u:p[w@h", "mqtt://u:********@h"),
        ("mqtt://u:p@w:x@h:1", "mqtt://u:********@h:1"),
        ("mqtt://u:a://b@h", "mqtt://u:********@h"),
        ("mqtt://u:hush", "mqtt://u:********"),
        ("u:hush@h", "u:********@h"),
        ("postgresql://h/db?password=a/b#c&x=1", "postgresql://h/db?password=********&x=1"),
        ("postgresql://u@h/db?PassWord=a@b", "postgresql://u@h/db?PassWord=********"),
        ("postgresql://h/db?x=1&pass%77ord=a", "postgresql://h/db?x=1&pass%77ord=********"),
        ("s3://b?endpoint=http://key:hush@h", "s3://b?endpoint=http://********@h"),
        ("s3://b?endpoint=http%3A%2F%2Fkey%3Ahush%40h&region=r", "s3://b?endpoint=********&region=r"),
        ("host=h password=hush", "host=h password=********"),
        ("mqtt://[::1]:1883", "mqtt://[::1]:1883"),
        ("mqtt://h:99999", "mqtt://h:99999"),
        ("sqlite:////data/fleet.db", "sqlite:////data/fleet.db"),
        ("s3://b/p?endpoint=http://h:9000&region=r", "s3://b/p?endpoint=http://h:9000&region=r"),
    ],
)
def test_secrets_are_masked(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", 99999),
        ("tls_names", "fleet.example, https://fleet.example"),
        ("tls_names", "*.example"),
        ("broker_port", 70000),
        ("oidc_issuer", "http://login.example"),
        ("broker", "mqtt://u:hush@h:99999"),
        ("broker", "mqtt://u:hush@h:0"),
        ("broker", "mqtt://u:hush@h:x"),
        ("broker", "mqtt://u:hush"),
        ("broker", "mqtt://u:hush@"),
        ("broker", "mqtt://u:hush@h/path"),
        ("broker", "http://u:hush@h"),
        ("broker", "u:hush@h"),
        ("broker_advertise", "h:abc"),
        ("broker_advertise", "[::1"),
        ("database", "mysql://u:hush@h/x"),
        ("database", "postgresql://u:hush@h:abc/x"),
        ("database", "postgresql://u:hush@h:99999/x"),
        ("database", "postgresql+asyncpg://u:hush@h/x"),
        ("database", "fleet.db"),
        ("blobs", "gs://bucket"),
        ("blobs", "file:///tmp"),
        ("blobs", "s3://"),
        ("blobs", "s3://b?endpoint=h:9000"),
        ("blobs", "s3://b?endpoint=http://key:hush@h"),
        ("blobs", "s3://key:hush@b"),
        ("blobs", "s3://b?secret=hush"),
        ("blobs", "s3://b?endpoint=http://[h"),
        ("s3_advertise", "h:9000"),
        ("tick_interval_s", "nan"),
        ("tick_interval_s", "inf"),
        ("tick_interval_s", "0"),
        ("api_token", "hush\r"),
        ("api_token", "hush hush"),
    ],
)
def test_bad_settings_are_named_and_keep_their_secrets(key: str, value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({key: value}, {}, None)
    assert caught.value.hint
    assert "hush" not in caught.value.message + caught.value.hint


def test_a_password_may_hold_any_character() -> None:
    url = parse_broker("mqtt://user:p/a?s#s[@:w@broker:1884")
    assert url == BrokerUrl("broker", 1884, "user", "p/a?s#s[@:w")
    assert parse_broker("mqtt://us%40er:p%2Fw@[fd00::1]") == BrokerUrl("fd00::1", 1883, "us@er", "p/w")


def test_an_s3_address_in_capitals_is_one() -> None:
    assert load_settings({"blobs": "S3://b/p"}, {}, None)[0].blobs_place == "S3://b/p"
    assert parse_s3("S3://b/p").prefix == "p/"
    with pytest.raises(SettingsError):
        load_settings({"blobs": "s3://b"}, {"FLEET_S3_ACCESS_KEY": "only one"}, None)


def test_what_is_in_force_is_shown_for_derived_defaults_too(tmp_path: Path) -> None:
    _, origins = load_settings({"data": str(tmp_path)}, {"FLEET_API_TOKEN": "hush"}, None)
    shown = {origin.name: origin.shown for origin in origins}
    assert shown["database"] == f"sqlite:///{tmp_path}/fleet.db"
    assert shown["blobs"] == f"{tmp_path}/blobs"
    assert shown["broker"] == "embedded, mqtts://127.0.0.1:8883"
    assert shown["api_token"] == "********"


def test_values_of_another_type_are_refused(tmp_path: Path) -> None:
    for line in ("port = true", "port = 1.5", "data = 5", "s3_secret_key = 815"):
        file = tmp_path / "fleet.toml"
        file.write_text(line)
        with pytest.raises(SettingsError) as caught:
            load_settings({}, {}, file)
        assert "815" not in caught.value.message


def test_variables_that_somebody_else_set_are_ignored_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    environment = {
        "FLEET_SERVICE_HOST": "10.0.0.1",
        "FLEET_PORT": "tcp://10.0.0.1:8470",
        "FLEET_PORT_8470_TCP": "tcp://10.0.0.1:8470",
        "FLEET_DATABSE": "sqlite:///x.db",
        "FLEET_TOKEN": "t",
        "FLEET_TOPIC_ROOT": "other/v1",
    }
    with caplog.at_level(logging.WARNING):
        settings, _ = load_settings({}, environment, None)
    assert (settings.port, settings.topic_root) == (8470, "other/v1")
    (record,) = caplog.records
    message = record.getMessage()
    for word in ("FLEET_SERVICE_HOST", "FLEET_PORT,", "FLEET_PORT_8470_TCP", "did you mean FLEET_DATABASE?"):
        assert word in message
    assert "FLEET_TOKEN" not in message


@pytest.mark.parametrize(
    "url", ["mysql://u:hush@h/x", "postgresql://u:hush@h:abc/x", "nonsense", "postgresql://u:hush@[::1/x"]
)
def test_a_bad_database_address_is_no_defect(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_engine(url).dispose()
    assert caught.value.code == "database.url"
    assert "hush" not in caught.value.message


def test_devices_are_told_an_address_they_can_reach() -> None:
    local = BrokerEndpoint("127.0.0.1", 1883, mqtt5=False)
    assert advertise_broker(Settings(), local).host is None
    assert advertise_broker(Settings(broker="mqtt://localhost"), BrokerEndpoint("localhost", 1)).host is None
    named = advertise_broker(Settings(broker_advertise="[fd00::1]:1884"), local)
    assert (named.host, named.port, named.tls) == ("fd00::1", 1884, False)


def test_devices_are_told_of_mutual_tls() -> None:
    files = TlsFiles(Path("ca"), Path("certificate"), Path("key"))
    told = advertise_broker(Settings(), BrokerEndpoint("127.0.0.1", 8883, mqtt5=False, tls=files))
    assert (told.port, told.tls, told.mqtt5) == (8883, True, False)


def test_devices_get_a_broker_user_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = BrokerEndpoint("broker", 1883, "controller", "hush")
    own = advertise_broker(Settings(broker_advertise="mqtt://device:d@public:1884"), endpoint)
    assert (own.username, own.password, own.host, own.port) == ("device", "d", "public", 1884)
    assert not caplog.records
    shared = advertise_broker(Settings(), endpoint)
    assert shared.username == "controller"
    assert "broker_advertise" in caplog.text
