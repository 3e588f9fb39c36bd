"""A broker beside the controller: how it is named, and what cannot be."""

from pathlib import Path

import pytest
from cryptography import x509

from fleet_cloud.adapters.db.engine import migrate, open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.adapters.mqtt.gateway import BrokerEndpoint
from fleet_cloud.addresses import parse_broker
from fleet_cloud.bootstrap.brokers import advertise_broker
from fleet_cloud.entrypoints.mosquitto import configure
from fleet_cloud.errors import SettingsError
from fleet_cloud.services.ports import IssuedCertificate, TlsFiles
from fleet_cloud.settings import Settings, load_settings
from fleet_shared.names import DeviceId, Digest

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


def test_a_broker_is_set_up_with_whoever_was_revoked(tmp_path: Path) -> None:
    """The folder of certificates may be gone: it is made anew, and so is the list."""
    settings, serial = Settings(data=str(tmp_path / "data")), 0xABC
    settings.data_dir.mkdir()
    engine = open_engine(settings.database_url)
    migrate(engine)
    with DatabaseUnitOfWork(engine).begin() as transaction:
        device = DeviceId("pi-1")
        transaction.certificates.add(IssuedCertificate(f"{serial:x}", device, Digest("0" * 64), 1, 2**45))
        transaction.certificates.revoke(device, 2)
    engine.dispose()
    configure(settings, tmp_path / "out", None, "", ["broker.example"])
    listed = x509.load_pem_x509_crl((tmp_path / "out" / "crl.pem").read_bytes())
    assert [entry.serial_number for entry in listed] == [serial]
