"""``fleet trust``: what an operator reads and is told, over the API of a controller with all keys at hand."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet_cloud.client import Client
from fleet_cloud.domain.device import Device
from fleet_cloud.entrypoints.cli.app import app
from fleet_cloud.errors import CloudError
from fleet_shared.errors import FleetError
from fleet_shared.messages.reported import Reported, TrustReport
from fleet_shared.names import DeviceId, Digest
from tests.kit.api import Api, running_api
from tests.kit.commands import run_fleet
from tests.kit.parts import ABLE
from tests.kit.people import KIT_TOKEN

SEALED = {"FLEET_TRUST_PASSPHRASE": "correct horse battery"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with Client(api.url, KIT_TOKEN) as client:
        yield client


def trust(
    api: Api, *words: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = run_fleet(api.url, "trust", *words, environment=SEALED if environment is None else environment)
    assert "Traceback" not in done.stderr
    return done


def add_device(api: Api, name: str, report: TrustReport | None) -> None:
    device = Device(
        id=DeviceId(name), enrolled_ms=1, public_key_sha256=Digest("a" * 64),
        reported=Reported(session="s", facts=ABLE, trust=report),
    )  # fmt: skip
    with api.uow.begin() as transaction:
        transaction.devices.put(device)


def test_status_says_who_signs_until_when_and_who_believes_it(api: Api, client: Client) -> None:
    standing = client.trust()
    add_device(api, "pi-1", TrustReport(root_version=standing.root_version, key_epoch=standing.key_epoch))
    add_device(api, "pi-2", TrustReport(root_version=0, key_epoch=0))
    add_device(api, "pi-3", None)
    lines = trust(api, "status").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["root", "targets", "snapshot", "timestamp"]
    assert "1 of" in lines[1]
    assert lines[1].endswith(" d")
    text = "\n".join(lines)
    assert f"devices that believe root {standing.root_version}: 1 of 2" in text
    assert f"devices that believe epoch {standing.key_epoch}: 1 of 2" in text
    assert "devices that have not said: 1" in text
    assert "nothing waits to be signed" in text


def test_every_change_of_keys_is_in_the_audit_log(api: Api, client: Client) -> None:
    before = client.trust()
    assert "epoch 2" in trust(api, "rotate", "assignment").stdout
    assert "root 2" in trust(api, "rotate", "snapshot").stdout
    (timestamp,) = [one for one in client.trust().roles if one.role == "timestamp"]
    assert trust(api, "revoke", timestamp.keyids[0][:10]).returncode == 0
    after = client.trust()
    assert after.root_version == before.root_version + 2
    with api.uow.read() as transaction:
        entries = [one.entry for one in transaction.audit.page(0, 100)]
    entries = [one for one in entries if one.action.startswith("trust.")]
    assert [(one.action, one.subject) for one in entries] == [
        ("trust.rotate", "assignment"),
        ("trust.rotate", "snapshot"),
        ("trust.revoke", timestamp.keyids[0]),
    ]
    assert before.assignment_keyid in (entries[0].before or "")
    assert after.assignment_keyid in (entries[0].after or "")
    assert all(one.actor and one.origin for one in entries)


def test_a_change_that_is_refused_is_not_in_the_audit_log(api: Api, client: Client) -> None:
    with api.uow.read() as transaction:
        before = transaction.audit.last()
    changes: tuple[Callable[[], object], ...] = (
        lambda: client.revoke_key("0" * 64),
        lambda: client.rotate("mirrors", [], None),
        lambda: client.rotate("root", ["no key"], None),
        lambda: client.rotate("targets", [], 2),
        lambda: client.put_signed(b"{}"),
    )
    for change in changes:
        with pytest.raises(CloudError) as caught:
            change()
        assert caught.value.hint
        assert caught.value.code != "controller.failed"
    with api.uow.read() as transaction:
        assert transaction.audit.last() == before


def test_nothing_to_sign_is_said(api: Api, tmp_path: Path) -> None:
    done = trust(api, "sign", "--export", str(tmp_path / "file.json"))
    assert done.returncode == 1
    assert "trust.sign.nothing" in done.stderr
    assert not (tmp_path / "file.json").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("sign",), "trust.sign.usage"),
        (("sign", "missing.json"), "trust.sign.usage"),
        (("sign", "missing.json", "--key", "k.pem"), "trust.file"),
        (("sign", "--import", "missing.json"), "trust.file"),
        (("init", "--data", "data"), "trust.init.keys"),
        (("init", "--data", "data", "--keys", "data/keys"), "trust.init.keys"),
        (("init", "--data", "data", "--root", "a.pem", "--targets", "b.pem"), "trust.keys"),
        (("rotate", "targets", "--key", "missing.pub.json"), "trust.file"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(api: Api, words: tuple[str, ...], code: str) -> None:
    error = refused(api, *words)
    assert error.code == code
    assert error.hint


def refused(api: Api, *words: str, **environment: str) -> FleetError:
    """Run a command in this process; return what it raises, which its process would print."""
    given = {"FLEET_TOKEN": KIT_TOKEN, **SEALED, **environment}
    result = CliRunner(env=given).invoke(app, ["--server", api.url, "trust", *words])
    assert isinstance(result.exception, FleetError), result.output
    return result.exception


def test_a_passphrase_is_asked_for_and_never_an_argument(api: Api, tmp_path: Path) -> None:
    key = str(tmp_path / "key.pem")
    for passphrase in ("", "short"):
        assert refused(api, "key", key, FLEET_TRUST_PASSPHRASE=passphrase).code == "trust.passphrase"
    file = tmp_path / "passphrase"
    file.write_text("correct horse battery\n")
    made = trust(api, "key", key, environment={"FLEET_TRUST_PASSPHRASE_FILE": str(file)})
    assert made.returncode == 0, made.stderr
    assert "correct" not in made.stdout + made.stderr
    assert b"ENCRYPTED" in (tmp_path / "key.pem").read_bytes()
    assert (tmp_path / "key.pub.json").exists()
