"""``fleet device token | tokens | revoke-token | revoke | readmit`` and ``fleet trust rotate ca``."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet_cloud.client import Client
from fleet_cloud.entrypoints.cli.app import app
from fleet_cloud.errors import CloudError
from fleet_shared.messages.enrolment import EnrolRequest
from fleet_shared.names import DeviceId
from fleet_shared.token import EnrolmentToken
from tests.kit.api import Api, running_api
from tests.kit.commands import run_fleet
from tests.kit.doors import Door
from tests.kit.identities import make_csr
from tests.kit.people import KIT_TOKEN

TOKEN = {"FLEET_TOKEN": KIT_TOKEN}


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def api(tmp_path: Path, door: Door) -> Iterator[Api]:
    with running_api(tmp_path, access=door) as running:
        yield running


def run(api: Api, *words: str) -> str:
    """Run ``fleet`` in this process: a process for each would take a second."""
    done = CliRunner().invoke(app, ["--server", api.url, "--token", KIT_TOKEN, *words])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def fleet(api: Api, *words: str) -> str:
    return run(api, "device", *words)


def enrol(api: Api, token: str, device: str = "pi-1") -> None:
    secret = EnrolmentToken.parse(token).secret
    api.identities.enrolling.enrol(
        EnrolRequest(secret=secret, device=DeviceId(device), csr_pem=make_csr(device))
    )


def test_a_token_for_many_devices_is_listed_and_taken_back(api: Api) -> None:
    token = fleet(api, "token", "site=berlin", "--uses", "3")
    enrol(api, token)
    line = fleet(api, "tokens").splitlines()[1]
    assert all(word in line for word in ("open", "1/3", "site=berlin", "pi-1"))
    assert token.strip() not in line
    said = fleet(api, "revoke-token", line.split()[0])
    assert "is revoked; pi-1 stay" in said
    assert fleet(api, "tokens").strip() == "no token can be used now: fleet device token"
    assert "revoked" in fleet(api, "tokens", "--all")
    assert json.loads(fleet(api, "tokens", "--all", "-o", "json"))[0]["state"] == "revoked"


def test_a_token_for_a_device_that_lost_its_key(api: Api) -> None:
    enrol(api, fleet(api, "token"))
    token = fleet(api, "token", "--for", "pi-1")
    assert "a new key of pi-1" in fleet(api, "tokens")
    enrol(api, token)
    done = run_fleet(api.url, "device", "token", "a=b", "--for", "pi-1", environment=TOKEN)
    assert done.returncode == 1
    assert "error[enrol.token.device]" in done.stderr


def test_a_device_is_revoked_and_readmitted_in_one_command_each(api: Api, door: Door) -> None:
    enrol(api, fleet(api, "token"))
    assert fleet(api, "revoke", "pi-1").strip() == "pi-1 is revoked, and its session is cut"
    assert "revoked" in fleet(api, "list")
    assert "revoked" in fleet(api, "show", "pi-1")
    assert fleet(api, "readmit", "pi-1").strip() == "pi-1 is let in again"
    door.away = True
    assert "the broker is away" in fleet(api, "revoke", "pi-1")


def test_whoever_revokes_hears_of_the_token_that_lets_the_same_machine_in_by_another_name(api: Api) -> None:
    enrol(api, fleet(api, "token", "--uses", "3"))
    name = fleet(api, "tokens").splitlines()[1].split()[0]
    said = fleet(api, "revoke", "pi-1")
    assert "2 more devices" in said
    assert f"fleet device revoke-token {name}" in said


def test_devices_that_the_database_forgot_are_listed_and_readmitted(api: Api) -> None:
    enrol(api, fleet(api, "token"))
    assert "knows every device" in fleet(api, "readmit")
    register = api.identities.revocation.register
    entry = register.get(DeviceId("pi-1"))
    assert entry is not None
    for name in ("pi-7", "pi-8"):
        register.put(replace(entry, device=DeviceId(name), serial=name[-1]))
    assert "pi-7" in fleet(api, "readmit")
    assert fleet(api, "readmit", "pi-7", "pi-8").count("is let in again") == 2
    assert "knows every device" in fleet(api, "readmit")


def test_the_broker_of_a_lab_lets_anybody_in_and_that_is_said(tmp_path: Path) -> None:
    with running_api(tmp_path) as api:
        enrol(api, fleet(api, "token"))
        assert "lets anybody in" in fleet(api, "revoke", "pi-1")


def test_the_authority_is_replaced_step_by_step(api: Api) -> None:
    def rotate(*words: str) -> str:
        return run(api, "trust", "rotate", "ca", *words)

    with Client(api.url, KIT_TOKEN) as client:
        enrol(api, client.create_token({}, 600))
    assert "no other is believed" in rotate("--status")
    assert "behind:    pi-1" in rotate()
    for words, code in (((), "running"), (("--finish",), "early"), (("--force",), "options")):
        with pytest.raises(CloudError) as caught:
            rotate(*words)
        assert caught.value.code == f"authority.rotation.{code}"
        assert caught.value.hint
    assert "no other is believed" in rotate("--finish", "--force")
    assert len(json.loads(rotate("--status", "-o", "json"))["fingerprints"]) == 1
