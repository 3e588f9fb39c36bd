"""What Mosquitto 2.0.11 does that decided how Fleet uses it (ADR 0018). Another one may do better."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_cloud.adapters.mosquitto.commands import Command
from fleet_cloud.adapters.mosquitto.control import Control
from fleet_cloud.adapters.mosquitto.files import files_in
from tests.kit.broker_client import BrokerClient, Refused
from tests.kit.secure_mosquitto import ControllerLine, SecureMosquitto, secure_mosquitto
from tests.kit.waiting import wait_for


def version() -> str:
    binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    said = subprocess.run([binary, "-h"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version ([0-9.]+)", said)
    return found.group(1) if found else "none"


pytestmark = pytest.mark.skipif(version() != "2.0.11", reason="these are facts about Mosquitto 2.0.11")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SecureMosquitto]:
    with secure_mosquitto(tmp_path, ["pi-1"]) as running:
        yield running


@pytest.fixture
def control(broker: SecureMosquitto) -> Iterator[Control]:
    line = ControllerLine(broker)
    found = Control(line)
    with line.running():
        yield found


def connect(broker: SecureMosquitto) -> BrokerClient:
    return BrokerClient(broker.port, broker.parties["pi-1"].tls, "pi-1", mqtt5=True)


def gets_in(broker: SecureMosquitto) -> bool:
    try:
        with connect(broker):
            return True
    except Refused:
        return False


def test_a_client_that_was_disabled_comes_back_with_all_its_rights(
    broker: SecureMosquitto, control: Control
) -> None:
    with connect(broker) as device:
        control.run([Command("disableClient", {"username": "pi-1"})])
        device.wait_until_gone()
    with connect(broker) as device:
        assert device.publish("fleet/v1/devices/pi-1/presence", b"x")


def test_a_client_that_was_deleted_comes_back_without_rights(
    broker: SecureMosquitto, control: Control
) -> None:
    control.run([Command("deleteClient", {"username": "pi-1"})])
    with connect(broker) as device:
        assert not device.publish("fleet/v1/devices/pi-1/presence", b"x")


def test_names_in_rules_are_not_filled_in(broker: SecureMosquitto, control: Control) -> None:
    rule = {"acltype": "publishClientSend", "topic": "own/%u", "priority": 0, "allow": True}
    control.run([Command("addRoleACL", {"rolename": "device-pi-1", **rule})])
    with connect(broker) as device:
        assert not device.publish("own/pi-1", b"x")
        assert device.publish("own/%u", b"x")


def test_the_revocation_list_is_read_on_a_signal_only_and_a_live_session_goes_on(
    broker: SecureMosquitto,
) -> None:
    with connect(broker) as device:
        broker.authority.revoke(broker.parties["pi-1"])
        files_in(broker.place.folder).revoked.write_bytes(broker.authority.crl_pem())
        assert device.is_connected()
        assert device.publish("fleet/v1/devices/pi-1/presence", b"x")
    assert gets_in(broker)
    broker.hang_up()
    wait_for("the list to be read", lambda: not gets_in(broker))


def test_a_broken_revocation_list_lets_revoked_devices_in(broker: SecureMosquitto) -> None:
    """Why files are judged before the broker gets them."""
    copy = files_in(broker.place.folder).revoked
    broker.authority.revoke(broker.parties["pi-1"])
    copy.write_bytes(broker.authority.crl_pem())
    broker.hang_up()
    wait_for("the list to be read", lambda: not gets_in(broker))
    copy.write_bytes(b"")
    broker.hang_up()
    wait_for("the device to be let in", lambda: gets_in(broker))


def test_rules_are_written_in_place(broker: SecureMosquitto, control: Control) -> None:
    """Why the unit mends torn rules: a power cut can leave half of them."""
    before = broker.place.state.stat().st_ino
    control.run([Command("createClient", {"username": "reader"})])
    assert "reader" in json.loads(broker.place.state.read_text())["clients"][-1]["username"]
    assert broker.place.state.stat().st_ino == before
