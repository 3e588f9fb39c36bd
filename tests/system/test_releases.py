"""Release and assignment keys on real processes: replaced while agents run, kept elsewhere, stolen, lost."""

import shutil
import time
from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile

from fleet_cloud.adapters.trust.ceremony import make_key, resolve_uri
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.adapters.trust.signing import Signing
from fleet_cloud.client import Client
from fleet_cloud.errors import Conflict
from fleet_shared.messages.desired import Desired, Policy, RunEntry
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName
from fleet_shared.topics import Channel, Topics
from tests.kit.commands import run_fleet
from tests.kit.mosquitto import Mosquitto
from tests.kit.mqtt import Listener
from tests.kit.packages import make_package, register
from tests.kit.waiting import wait_for
from tests.kit.world import World, running_world, wait_for_rollout

pytestmark = pytest.mark.system

QUICK = Policy(soak_s=0.2, deadline_s=60)
PASSPHRASE = "correct horse battery"
SEALED = {"FLEET_TRUST_PASSPHRASE": PASSPHRASE}
FAR = 2**40
ROLES = ("root", "targets", "snapshot", "timestamp", "assignment")


def push(client: Client, seed: int, to: str = "all") -> dict[str, str]:
    """Register a version of its own and push it; return how it ended on each device."""
    register(client, "tiny", make_package(seed=seed))
    rollout = client.create_rollout("tiny", to, variant=None, policy=QUICK)
    ended = wait_for_rollout(client, rollout.id)
    return {one.device: one.state if one.failure is None else one.failure.code for one in ended.assignments}


@pytest.mark.parametrize(
    ("count", "turns"),
    [
        (2, [ROLES]),
        pytest.param(
            20, [(one,) for one in ROLES], marks=[pytest.mark.long, pytest.mark.timeout(3600)], id="20"
        ),
    ],
)
def test_every_key_is_replaced_while_agents_run_and_no_push_fails(
    world: World, count: int, turns: list[tuple[str, ...]]
) -> None:
    """Keys are replaced while a push is on its way, and the agents are left alone."""
    names = [f"pi-{number}" for number in range(count)]
    for name in names:
        world.add_agent(name)
    good = dict.fromkeys(names, "succeeded")
    patient = Policy(soak_s=0.2, deadline_s=60.0 * count)
    with world.client() as client:
        for number, turn in enumerate(turns):
            register(client, "tiny", make_package(seed=2 + number))
            rollout = client.create_rollout("tiny", "all", variant=None, policy=patient)
            for role in turn:
                assert client.rotate(role, [], None).waiting == []
            ended = wait_for_rollout(client, rollout.id, timeout_s=60.0 * count)
            assert {one.device: one.state for one in ended.assignments} == good, (turn, ended)
        standing = client.trust()
        assert (standing.root_version, standing.key_epoch) == (5, 2)
        register(client, "tiny", make_package(seed=99))
        rollout = client.create_rollout("tiny", "all", variant=None, policy=patient)
        ended = wait_for_rollout(client, rollout.id, timeout_s=60.0 * count)
        assert {one.device: one.state for one in ended.assignments} == good, ended

        def orders() -> bool:
            reported = [client.device(name).reported for name in names]
            return all(one is not None and one.accepted.key_epoch == 2 for one in reported)

        wait_for("every device to have accepted what the new key signed", orders)


def test_a_version_waits_until_a_person_has_signed_it_elsewhere(tmp_path: Path) -> None:
    data, safe = tmp_path / "controller", tmp_path / "safe"
    begun = run_fleet("-", "trust", "init", "--data", str(data), "--keys", str(safe), environment=SEALED)
    assert begun.returncode == 0, begun.stderr
    with running_world(tmp_path) as world, world.client() as client:
        world.add_agent("pi-1")
        assert not register(client, "tiny", make_package()).released
        with pytest.raises(Conflict) as caught:
            client.create_rollout("tiny", "all", variant=None, policy=QUICK)
        assert caught.value.code == "version.unsigned"
        sign_by_command(world, tmp_path / "to-sign.json", safe / "targets.pem")
        assert client.versions("tiny")[0].released
        assert push(client, 1) == {"pi-1": "succeeded"}, "the same content is the same version"

        make_key(safe / "new.pem", PASSPHRASE)
        fleet(world, "trust", "rotate", "targets", "--key", str(safe / "new.pub.json"))
        sign(client, safe / "root.pem", safe / "targets.pem", safe / "new.pem")
        assert client.trust().root_version == 2
        register(client, "tiny", make_package(seed=2))
        sign(client, safe / "new.pem")
        assert push(client, 2) == {"pi-1": "succeeded"}


def fleet(world: World, *words: str) -> str:
    done = run_fleet(world.controller.url, *words, environment=SEALED)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def sign_by_command(world: World, file: Path, key: Path) -> None:
    assert "waits to be signed" in fleet(world, "trust", "status")
    fleet(world, "trust", "sign", "--export", str(file))
    assert "signatures added" in fleet(world, "trust", "sign", str(file), "--key", str(key), "--yes")
    assert "nothing waits" in fleet(world, "trust", "sign", "--import", str(file))


def sign(client: Client, *keys: Path) -> None:
    signing = Signing(client.to_sign(), [resolve_uri(str(key)) for key in keys], lambda _name: PASSPHRASE)
    assert client.put_signed(signing.sign()[0]).waiting == []


def test_a_generation_of_a_stolen_assignment_key_is_recovered_from(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """The thief uses up the last generation of the epoch; a new key begins another."""
    with running_world(tmp_path, {"broker": mosquitto.url}) as world, world.client() as client:
        agent = world.add_agent("pi-1")
        assert push(client, 1) == {"pi-1": "succeeded"}
        shutil.copytree(tmp_path / "controller" / "trust", tmp_path / "stolen")
        thief = ControllerTrust(tmp_path / "stolen")
        (variant,) = client.versions("tiny")[0].variants
        forged = last_generation(DeviceId(agent.name), Digest(variant.manifest))
        topic = Topics().device(DeviceId(agent.name), Channel.DESIRED)
        with Listener(mosquitto.port, "nothing") as attacker:
            attacker.publish(topic, thief.sign_desired(forged), retain=True)

        def used_up() -> bool:
            reported = client.device("pi-1").reported
            return reported is not None and reported.accepted.generation == 2**63 - 1

        wait_for("the device to accept what the stolen key signed", used_up)
        assert push(client, 2) == {"pi-1": "desired.generation"}
        client.rotate("assignment", [], None)
        with Listener(mosquitto.port, "nothing") as attacker:
            attacker.publish(topic, thief.sign_desired(forged), retain=False)
        assert push(client, 3) == {"pi-1": "succeeded"}
        assert agent.read_record()
        served = (tmp_path / "controller" / "trust" / "metadata" / "timestamp.json").read_bytes()

        def retained() -> bool:
            with Listener(mosquitto.port, Topics().releases) as listener:
                return listener.get()[1] == served

        wait_for("the newest timestamp to be retained at the broker", retained)


def last_generation(device: DeviceId, manifest: Digest) -> Desired:
    now_ms = int(time.time() * 1000)
    entry = RunEntry(
        model=ModelName("tiny"), version="1.0.0", manifest=manifest, assignment=AssignmentId("forged")
    )
    return Desired(
        device=device,
        key_epoch=1,
        generation=2**63 - 1,
        serial=0,
        issued_ms=now_ms,
        expires_ms=now_ms + 3_600_000,
        run=(entry,),
    )


def test_a_controller_with_yesterdays_database_pushes(world: World) -> None:
    data = world.folder / "controller"
    world.add_agent("pi-1")
    with world.client() as client:
        assert push(client, 1) == {"pi-1": "succeeded"}
    assert world.controller.end() == 0
    shutil.copy(data / "fleet.db", world.folder / "backup.db")
    world.controller.start()
    with world.client() as client:
        assert push(client, 2) == {"pi-1": "succeeded"}
    assert world.controller.end() == 0
    for file in data.glob("fleet.db*"):
        file.unlink()
    shutil.copy(world.folder / "backup.db", data / "fleet.db")
    world.controller.start()
    with world.client() as client:
        assert push(client, 4) == {"pi-1": "succeeded"}


@pytest.mark.long
def test_a_controller_with_an_older_folder_of_releases_pushes(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """The broker's retained timestamp says how far devices have seen."""
    with running_world(tmp_path, {"broker": mosquitto.url}) as world:
        trust = tmp_path / "controller" / "trust"
        world.add_agent("pi-1")
        with world.client() as client:
            assert push(client, 1) == {"pi-1": "succeeded"}
        assert world.controller.end() == 0
        shutil.copytree(trust, tmp_path / "older")
        world.controller.start()
        with world.client() as client:
            for seed in (2, 3):
                assert push(client, seed) == {"pi-1": "succeeded"}
        assert world.controller.end() == 0
        shutil.rmtree(trust)
        shutil.copytree(tmp_path / "older", trust)
        world.controller.start()
        with world.client() as client:
            assert push(client, 4) == {"pi-1": "succeeded"}
            versions = [one.version for one in client.versions("tiny")]
            rollout = client.create_rollout(f"tiny:{versions[-2]}", "all", variant=None, policy=QUICK)
            assert wait_for_rollout(client, rollout.id).state == "succeeded", "it was released again"


def test_devices_that_were_fast_forwarded_go_on_once_the_online_keys_are_replaced(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """A mirror with stolen snapshot and timestamp keys serves versions that no honest release reaches."""
    with running_world(tmp_path, {"broker": mosquitto.url}) as world, world.client() as client:
        metadata = tmp_path / "controller" / "trust" / "metadata"
        world.add_agent("pi-1")
        register(client, "tiny", make_package())
        served = (metadata / "timestamp.json").read_bytes()
        for name, raw in fast_forward(ControllerTrust(tmp_path / "controller" / "trust")).items():
            (metadata / name).write_bytes(raw)
        rollout = client.create_rollout("tiny", "all", variant=None, policy=QUICK)
        assert wait_for_rollout(client, rollout.id).state == "succeeded", "it is signed by the right keys"
        (metadata / "timestamp.json").write_bytes(served)
        for file in metadata.glob(f"{FAR}.*"):
            file.unlink()
        patient = Policy(soak_s=0.2, deadline_s=200)
        rollout = client.create_rollout("tiny", "all", variant=None, policy=patient)

        def refusal() -> str | None:
            unverified = (e for e in client.events("pi-1") if e.name == "desired.unverified")
            return next((e.failure.code for e in unverified if e.failure is not None), None)

        assert wait_for("the device to refuse what is older", refusal, 60).startswith("trust.metadata")
        assert client.rollout(rollout.id).state == "running"
        for role in ("snapshot", "timestamp"):
            client.rotate(role, [], None)
        ended = wait_for_rollout(client, rollout.id, timeout_s=220)
        assert ended.state == "succeeded", "the push that waited goes on by itself"


def fast_forward(trust: ControllerTrust) -> dict[str, bytes]:
    """Sign snapshot and timestamp of the version `FAR` with their keys."""
    files = {}
    snapshot, timestamp = (trust.repository.newest(role) for role in ("snapshot", "timestamp"))
    timestamp.signed.snapshot_meta = MetaFile(FAR)
    for role, metadata in (("snapshot", snapshot), ("timestamp", timestamp)):
        (keyid,) = trust.repository.root().roles[role].keyids
        signer = trust.repository.signers.find(keyid)
        assert signer is not None
        metadata.signed.version = FAR
        metadata.sign(signer)
        files["timestamp.json" if role == "timestamp" else f"{FAR}.snapshot.json"] = metadata.to_bytes()
    return files
