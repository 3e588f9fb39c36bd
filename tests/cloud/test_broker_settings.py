"""A broker beside the controller: how it is named, and what cannot be."""

from pathlib import Path

import pytest

from fleet_cloud.adapters.mqtt.gateway import BrokerEndpoint
from fleet_cloud.addresses import parse_broker
from fleet_cloud.bootstrap.brokers import advertise_broker
from fleet_cloud.entrypoints.mosquitto import configure
from fleet_cloud.errors import SettingsError
from fleet_cloud.services.ports import TlsFiles
from fleet_cloud.settings import Settings, load_settings

NOWHERE = Path("/nowhere")
TLS = TlsFiles(NOWHERE, NOWHERE, NOWHERE)
GOOD = {"broker": "mqtts://h", "broker_access": "dynsec", "broker_files": "/etc/mosquitto/fleet"}


def test_a_broker_with_tls_is_named_mqtts() -> None:
    url = parse_broker("mqtts://broker.example")
    assert (url.tls, url.port, str(url)) == (True, 8883, "mqtts://broker.example:8883")
    assert not parse_broker("mqtt://broker.example").tls


@pytest.mark.parametrize(
    ("advertise", "tls", "port"),
    [("", True, 8883), ("other:9", True, 9), ("mqtt://other:9", False, 9), ("mqtts://other", True, 8883)],
)
def test_devices_are_told_whether_certificates_are_shown(advertise: str, tls: bool, port: int) -> None:
    settings = Settings(broker="mqtts://h", broker_advertise=advertise)
    told = advertise_broker(settings, BrokerEndpoint("h", 8883, tls=TLS))
    assert (told.tls, told.port) == (tls, port)


def test_dynamic_security_is_for_a_broker_with_certificates_and_files() -> None:
    settings, _ = load_settings(GOOD, {}, None)
    assert settings.broker_access == "dynsec"


@pytest.mark.parametrize(
    "wrong",
    [
        {"broker_access": "everybody"},
        {"broker": "mqtt://h"},
        {"broker": ""},
        {"broker_files": ""},
        {"broker_reload": "sh -c 'kill"},
    ],
)
def test_what_would_leave_the_door_open_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({**GOOD, **wrong}, {}, None)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("broker", "folder", "hosts"),
    [
        ("", "out", []),
        ("mqtt://h:1883", "out", []),
        ("mqtts://h", "with a space", []),
        ("mqtts://h", "with'quote", []),
        ("", "/proc/nowhere", ["h"]),
    ],
)
def test_a_configuration_that_cannot_be_is_said(
    tmp_path: Path, broker: str, folder: str, hosts: list[str]
) -> None:
    settings = Settings(data=str(tmp_path / "data"), broker=broker)
    with pytest.raises(SettingsError) as caught:
        configure(settings, tmp_path / folder, None, "", hosts)
    assert caught.value.code == "broker.config"
    assert caught.value.hint


def test_a_second_run_leaves_the_rules_alone_that_the_broker_keeps(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path / "data"))
    state = tmp_path / "state.json"
    first = configure(settings, tmp_path / "out", state, "", ["broker.example", "10.0.0.1"])
    assert 'broker = "mqtts://broker.example:8883"' in first.settings
    assert 'tls_names = "broker.example,10.0.0.1"' in first.settings
    state.write_text("kept by the broker")
    configure(settings, tmp_path / "out", state, "", ["broker.example"])
    assert state.read_text() == "kept by the broker"
