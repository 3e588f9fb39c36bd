"""Bad input gives one clear error with a code and a hint, and loses nothing. A person's commands."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.kit.commands import run_fleet
from tests.kit.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from tests.kit.packages import make_package, register
from tests.kit.ports import free_port
from tests.kit.world import BIN, World, running_world

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One controller for all: what is wrong here leaves nothing behind."""
    with running_world(tmp_path_factory.mktemp("world")) as running:
        yield running


def fleet(
    world: World | None, *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    server = world.controller.url if world else f"http://127.0.0.1:{free_port()}"
    return run_fleet(server, *words, environment=environment)


def run_agent(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "fleet-agent"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def expect(done: subprocess.CompletedProcess[str], code: str) -> None:
    assert done.returncode == 1, done
    assert f"error[{code}]" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_unknown_and_malformed_names(world: World) -> None:
    with world.client() as client:
        register(client, "tiny", make_package())
        before = client.models()
        devices = list(client.devices())
    expect(fleet(world, "device", "show", "nobody"), "device.unknown")
    expect(fleet(world, "device", "show", "No Body"), "name.invalid")
    unknown = fleet(world, "model", "show", "tinny")
    expect(unknown, "model.unknown")
    assert "did you mean tiny" in unknown.stderr
    expect(fleet(world, "model", "show", "tiny:9.9.9"), "model.version.unknown")
    expect(fleet(world, "model", "show", "tiny:9.9"), "name.invalid")
    expect(fleet(world, "push", "tiny", "--to", "site=nowhere"), "rollout.empty")
    expect(fleet(world, "push", "tiny", "--to", "site in"), "selector.invalid")
    expect(fleet(world, "push", "tiny", "--to", "all", "--variant", "int4"), "model.variant.unknown")
    expect(fleet(world, "push", "tinny", "--to", "all"), "model.unknown")
    expect(fleet(world, "push", "tiny:9.9.9", "--to", "all"), "model.version.unknown")
    expect(fleet(world, "rollout", "show", "nothing"), "rollout.unknown")
    expect(fleet(world, "telemetry", "nobody"), "device.unknown")
    expect(fleet(world, "device", "label", "nobody", "site=x"), "device.unknown")
    with world.client() as client:
        assert client.rollouts() == []
        assert client.models() == before
        assert list(client.devices()) == devices


def test_recipes_and_model_files(world: World, tmp_path: Path) -> None:
    with world.client() as client:
        before = client.models()
    recipe = tmp_path / "recipe.yaml"
    expect(fleet(world, "build", str(recipe)), "recipe.missing")
    recipe.write_text("model: digits\ntraining: {epocs: 3}\n")
    wrong = fleet(world, "build", str(recipe))
    expect(wrong, "recipe.invalid")
    assert "epochs" in wrong.stderr
    recipe.write_text("model: digits\ndataset: {kind: npz, path: missing.npz}\n")
    expect(fleet(world, "build", str(recipe)), "recipe.file.missing")
    fake = tmp_path / "fake.tflite"
    fake.write_bytes(b"this is no model at all")
    expect(fleet(world, "model", "import", str(fake), "--name", "fake"), "model.file.invalid")
    fake.write_bytes(b"\0\0\0\0TFL3" + b"\xff" * 200)
    done = fleet(world, "model", "import", str(fake), "--name", "fake")
    assert done.returncode == 1
    assert "error[model.file." in done.stderr
    with world.client() as client:
        assert client.models() == before


def test_parts_that_are_away(tmp_path: Path) -> None:
    expect(fleet(None, "status"), "controller.unreachable")
    data = ["serve", "--data", str(tmp_path / "data"), "--port", "0", "--broker-port", "0"]
    away = f"127.0.0.1:{free_port()}"
    expect(fleet(None, *data, "--broker", f"mqtt://{away}"), "broker.unreachable")
    expect(fleet(None, *data, "--database", f"postgresql://u:secret@{away}/x"), "database.unreachable")
    assert "secret" not in fleet(None, *data, "--database", f"postgresql://u:secret@{away}/x").stderr
    expect(fleet(None, *data, "--tls", "given"), "settings.invalid")


def test_a_port_in_use(world: World, tmp_path: Path) -> None:
    data = ["serve", "--data", str(tmp_path / "other"), "--broker-port", "0"]
    expect(fleet(None, *data, "--port", str(world.controller.port)), "port.in_use")


def test_a_data_folder_in_use(world: World) -> None:
    data = ["serve", "--data", str(world.folder / "controller"), "--port", "0", "--broker-port", "0"]
    expect(fleet(None, *data), "data.in_use")


def test_the_port_of_the_embedded_broker_in_use(world: World, tmp_path: Path) -> None:
    taken = str(world.controller.broker_port)
    other = tmp_path / "other"
    done = fleet(None, "serve", "--data", str(other), "--port", "0", "--broker-port", taken)
    expect(done, "port.in_use")
    assert taken in done.stderr
    assert "--broker-port" in done.stderr
    with world.client() as client:
        assert client.health().status == "ok"


def test_the_port_of_an_agent_in_use_touches_nothing(world: World, tmp_path: Path) -> None:
    state = str(tmp_path / "pi-9")
    with world.client() as client:
        token = client.create_token({}, life_s=60)
    enrolled = run_agent("enrol", world.controller.url, "--token", token, "--id", "pi-9", "--state", state)
    assert enrolled.returncode == 0, enrolled
    done = run_agent("run", "--state", state, "--http-port", str(world.controller.port))
    expect(done, "port.in_use")
    assert str(world.controller.port) in done.stderr
    assert not (tmp_path / "pi-9" / "outbox.db").exists()
    status = run_agent("status", "--state", state)
    assert (status.returncode, "pi-9" in status.stdout) == (0, True)


def test_a_bucket_that_is_away_missing_or_not_ours(tmp_path: Path, s3: ObjectStore) -> None:
    data = ["serve", "--data", str(tmp_path / "data"), "--port", "0", "--broker-port", "0"]
    keys = {"FLEET_S3_ACCESS_KEY": ACCESS_KEY, "FLEET_S3_SECRET_KEY": SECRET_KEY}
    wrong = {**keys, "FLEET_S3_SECRET_KEY": "not-the-secret-key-of-this-store-at-all"}
    away = f"s3://models/x?endpoint=http://127.0.0.1:{free_port()}"
    expect(fleet(None, *data, "--blobs", away, environment=keys), "storage.unreachable")
    nowhere = f"s3://nowhere/x?endpoint={s3.endpoint}"
    expect(fleet(None, *data, "--blobs", nowhere, environment=keys), "storage.bucket.missing")
    denied = fleet(None, *data, "--blobs", s3.url("x"), environment=wrong)
    expect(denied, "storage.denied")
    assert "not-the-secret" not in denied.stderr + denied.stdout


def test_a_token_is_for_one_device(world: World, tmp_path: Path) -> None:
    with world.client() as client:
        before = {device.id for device in client.devices()}
        token = client.create_token({}, life_s=60)

    def enrol(name: str, given: str = token) -> subprocess.CompletedProcess[str]:
        url = world.controller.url
        return run_agent("enrol", url, "--token", given, "--id", name, "--state", str(tmp_path / name))

    assert enrol("pi-1").returncode == 0
    expect(enrol("pi-2"), "enrol.token.used")
    expect(enrol("pi-1"), "agent.enrolled")
    expect(enrol("pi-3", "nonsense"), "enrol.token.invalid")
    (tmp_path / "pi-1" / "identity" / "device.json").unlink()
    assert enrol("pi-1").returncode == 0, "the same token and key must be good again after a lost answer"
    with world.client() as client:
        assert {device.id for device in client.devices()} - before == {"pi-1"}


def test_the_configuration_says_where_each_value_came_from(tmp_path: Path) -> None:
    config = tmp_path / "fleet.toml"
    config.write_text('port = 9999\ndatabase = "postgresql://u:secret@h/x"\n')
    done = subprocess.run(
        [str(BIN / "fleet"), "config", "show", "--config", str(config)],
        capture_output=True,
        text=True,
        check=True,
        env={"FLEET_S3_SECRET_KEY": "hush", "PATH": str(Path(sys.executable).parent)},
    )
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "9999" in rows["port"]
    assert str(config) in rows["port"]
    assert "FLEET_S3_SECRET_KEY" in rows["s3_secret_key"]
    assert "default" in rows["topic_root"]
    assert "secret@" not in done.stdout
    assert "hush" not in done.stdout
    config.write_text("prot = 9999\n")
    wrong = subprocess.run(
        [str(BIN / "fleet"), "config", "show", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    expect(wrong, "settings.invalid")
    assert "port" in wrong.stderr
