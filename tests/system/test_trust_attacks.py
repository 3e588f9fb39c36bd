"""The table of attacks (`tests.kit.attacks`), on real processes: the running model goes on, the device says
what it refused, nothing of the attacker's runs, and afterwards a push succeeds with no hand at the device."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Timestamp

from fleet_shared.messages.desired import Desired
from fleet_shared.names import digest_of
from tests.kit.attacks import CLOCKS, FILES, KEYS, MIRRORS, NEWS, ORDERS, Attack, Who
from tests.kit.faulty_proxy import damaged, drip, endless
from tests.kit.mirror import Lie, behave, copy_of, instead, older_parts, only
from tests.kit.stage import DEVICE, PASSPHRASE, Stage, stage_in
from tests.kit.thief import DAY_MS, EVIL_VERSION, Thief, make_desired, make_evil, sign_as_a_stranger
from tests.kit.tiny_model import make_tiny_model
from tests.kit.waiting import wait_for
from tests.kit.world import wait_for_rollout

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

DAY_S = 86_400.0
YEAR_S = 365.25 * DAY_S
LAST = 2**63 - 1
TIMESTAMP = "metadata/timestamp.json"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage_in(tmp_path_factory.mktemp("stage")) as found:
        yield found


@pytest.fixture(autouse=True)
def peace(stage: Stage) -> Iterator[None]:
    """Before and after each attack; after it only what operators pushed may ever have answered."""
    stage.wait_until_calm()
    yield
    stage.mirror.be_honest()
    stage.clock.set(0)
    stage.check_answers()


def each(attacks: Sequence[Attack]) -> list[Any]:
    marks = {True: [pytest.mark.long], False: []}
    return [pytest.param(one, id=str(one), marks=marks[one.long]) for one in attacks]


# -- orders


def order_of(stage: Stage, thief: Thief, name: str) -> bytes:
    """Return what the attacker puts into the broker."""
    manifest, version = current(stage)

    def make(
        device: str = DEVICE, manifest: str = manifest, version: str = version, **changes: Any
    ) -> Desired:
        return make_desired(device, manifest, stage.accepted, version, **changes)

    now_ms = int(time.time() * 1000)
    entries = make().run
    made: dict[str, Callable[[], bytes]] = {
        "arbitrary software": lambda: sign_as_a_stranger(make(manifest="e" * 64, version=EVIL_VERSION)),
        "released but not assigned": lambda: sign_as_a_stranger(make()),
        "no envelope at all": lambda: b'{"payload": "e30="',
        "replayed order": lambda: replay(stage, thief),
        "forwarded order": lambda: thief.overhear_desired(stage.let_another_run()),
        "assigned but not released": lambda: thief.sign(make(manifest="e" * 64, version=EVIL_VERSION)),
        "order for another device": lambda: thief.sign(make(device="pi-3")),
        "wrong software": lambda: thief.sign(make(version=EVIL_VERSION)),
        "expired order": lambda: thief.sign(make(issued_ms=now_ms - 2 * DAY_MS, expires_ms=now_ms - DAY_MS)),
        "order of the future": lambda: thief.sign(
            make(issued_ms=now_ms + 400 * DAY_MS, expires_ms=now_ms + 500 * DAY_MS)
        ),
        "order of another epoch": lambda: thief.sign(make(key_epoch=stage.accepted.key_epoch + 1)),
        "generation 2 to the 63": lambda: thief.sign(make(generation=2**63)),
        "extraneous dependencies": lambda: thief.sign(make(run=(*entries, *entries))),
        "order that asks for more than is understood": lambda: thief.sign(make(critical=("obedience",))),
    }
    return made[name]()


def current(stage: Stage) -> tuple[str, str]:
    """Return the manifest and the version that the device runs."""
    active = stage.reported.active
    assert active is not None
    return active.manifest, active.version


def replay(stage: Stage, thief: Thief) -> bytes:
    """Return an order that was good, and is not any more."""
    old = thief.overhear_desired(DEVICE)
    stage.push()
    return old


@pytest.mark.parametrize("attack", each(ORDERS))
def test_an_order_that_is_not_the_operators_is_refused(stage: Stage, attack: Attack) -> None:
    thief = stage.thief()
    order, running, since_ms = order_of(stage, thief, attack.name), stage.running, stage.wait_until_calm()
    thief.publish_desired(DEVICE, order)
    stage.expect_refusal(attack.code, since_ms)
    assert stage.running == running
    stage.push()


# -- mirrors


def lie_of(stage: Stage, name: str) -> Lie | None:
    """Return what the mirror says from now on; what is honest now is old once the next version is there."""
    before = copy_of(stage.trust)
    lies: dict[str, Callable[[], Lie]] = {
        "metadata of another key": lambda: instead({TIMESTAMP: forge_timestamp(before[TIMESTAMP])}),
        "another manifest behind a released name": lambda: other_manifests(before),
        "endless metadata": lambda: behave(TIMESTAMP, endless),
        "malicious mirror": lambda: only(before),
        "mix and match": lambda: older_parts(before),
        "mirror that has nothing": lambda: only({}),
    }
    if name == "rollback":
        stage.push()
        return only(before)
    return lies[name]()


@pytest.mark.parametrize("attack", each([one for one in MIRRORS if one.code.startswith("trust.")]))
def test_a_push_waits_while_a_mirror_lies_and_goes_on_by_itself(stage: Stage, attack: Attack) -> None:
    lie = lie_of(stage, attack.name)
    since_ms, running = stage.wait_until_calm(), stage.running
    stage.mirror.lie = lie
    stage.release()
    rollout = stage.order()
    stage.expect_refusal(attack.code, since_ms)
    assert stage.mirror.lied
    assert stage.running == running
    assert stage.client.rollout(rollout).state == "running"
    stage.mirror.be_honest()
    stage.expect_success(rollout)


@pytest.mark.parametrize("attack", each([one for one in MIRRORS if one.code.startswith("transfer.")]))
def test_a_blob_that_is_not_what_was_released_ends_an_update_and_nothing_else(
    stage: Stage, attack: Attack
) -> None:
    since_ms, running = stage.wait_until_calm(), stage.running
    stage.mirror.tell(always={"transfer.digest": damaged, "transfer.too_long": endless}[attack.code])
    stage.release()
    (ended,) = wait_for_rollout(stage.client, stage.order()).assignments
    assert ended.failure is not None
    assert (ended.state, ended.failure.code) == ("failed", attack.code)
    stage.expect_refusal(attack.code, since_ms)
    assert stage.running == running
    stage.mirror.be_honest()
    stage.push()


@pytest.mark.parametrize("attack", each([one for one in MIRRORS if not one.code]))
def test_a_mirror_that_drips_is_passed_by(stage: Stage, attack: Attack) -> None:
    """Release files then come over the broker."""
    assert attack.name == "slow metadata"
    stage.mirror.lie = behave(TIMESTAMP, drip)
    stage.push()
    assert f"/releases/{TIMESTAMP}" in stage.mirror.lied


# -- news


@pytest.mark.parametrize("attack", each(NEWS))
def test_news_by_somebody_else_keep_nothing_back(stage: Stage, attack: Attack) -> None:
    """What a broker tells of is a bound from below if it is signed, and misleads neither side."""
    thief, old = stage.thief(), copy_of(stage.trust)[TIMESTAMP]
    stage.release()
    newest = copy_of(stage.trust)[TIMESTAMP]
    assert newest != old
    told = {
        "news that are no metadata": b"[" * 5000,
        "news that nobody signed": forge_timestamp(newest),
        "old news": old,
    }
    thief.publish_news(told[attack.name])
    stage.expect_success(stage.order())
    thief.publish_news(told[attack.name])
    stage.push()
    assert not stage.reported.trouble


# -- keys


@pytest.mark.long
def test_one_of_two_targets_keys_releases_nothing(stage: Stage) -> None:
    """Not even with all that lies at the controller, whose keys are replaced afterwards."""
    thief, attack = stage.thief(), find("key compromise under the threshold")
    thief.take_targets_keys(stage.key("targets-a"), passphrase=PASSPHRASE)
    evil = make_evil(stage.read_manifest())
    since_ms, running = stage.wait_until_calm(), stage.running
    stage.mirror.lie = only(thief.release(evil))
    thief.publish_desired(DEVICE, thief.sign(make_desired(DEVICE, digest_of(evil), stage.accepted)))
    stage.expect_refusal(attack.code, since_ms)
    assert stage.running == running
    stage.mirror.be_honest()
    for role in ("snapshot", "timestamp"):
        stage.replace(role)
    stage.replace("assignment")
    stage.push()


@pytest.mark.long
def test_both_targets_keys_assign_nothing_and_are_replaced(stage: Stage) -> None:
    """What the thief released is believed to be released, and runs nowhere without an order. (To release
    another assignment key as well would be the end: the page says so.)"""
    thief, attack = stage.thief(), find("key compromise over the threshold")
    thief.take_targets_keys(*(stage.key(one) for one in stage.signers), passphrase=PASSPHRASE)
    evil = make_evil(stage.read_manifest())
    files = thief.release(evil)
    since_ms, running = stage.wait_until_calm(), stage.running
    stage.mirror.lie = only(files)
    forged = make_desired(DEVICE, digest_of(evil), stage.accepted)
    thief.publish_desired(DEVICE, sign_as_a_stranger(forged))
    stage.expect_refusal(attack.code, since_ms)
    believed = stage.agent.state / "trust" / "metadata" / "timestamp.json"
    assert believed.read_bytes() == files[TIMESTAMP]
    stage.mirror.be_honest()
    stage.replace_targets("targets-c", "targets-d")
    for role in ("snapshot", "timestamp"):
        stage.replace(role)
    stage.push()
    assert stage.running != running
    refused_ms = stage.wait_until_calm()
    later = stage.thief()
    later.publish_desired(DEVICE, later.sign(make_desired(DEVICE, digest_of(evil), stage.accepted)))
    stage.expect_refusal("trust.manifest.unreleased", refused_ms)
    stage.push()


@pytest.mark.long
def test_versions_of_a_far_future_are_forgotten_with_the_keys_that_signed_them(stage: Stage) -> None:
    thief, attack = stage.thief(), find("fast-forward")
    stage.mirror.lie = instead(thief.fast_forward())
    stage.expect_success(stage.order())
    stage.mirror.be_honest()
    stage.release()
    since_ms, rollout = int(time.time() * 1000), stage.order()
    stage.expect_refusal(attack.code, since_ms)
    for role in ("snapshot", "timestamp"):
        stage.replace(role)
    stage.expect_success(rollout)


def test_the_last_generation_is_recovered_from_by_another_assignment_key(stage: Stage) -> None:
    thief, attack = stage.thief(), find("the last generation of an epoch")
    manifest, version = current(stage)
    last = thief.sign(make_desired(DEVICE, manifest, stage.accepted, version, generation=LAST))
    thief.publish_desired(DEVICE, last)
    wait_for("the device to accept what the stolen key signed", lambda: stage.accepted.generation == LAST)
    stage.release()
    (ended,) = wait_for_rollout(stage.client, stage.order()).assignments
    assert ended.failure is not None
    assert ended.failure.code == attack.code
    assert "rotate" in ended.failure.hint
    stage.replace("assignment")
    stage.push()
    since_ms = stage.wait_until_calm()
    thief.publish_desired(DEVICE, last)
    stage.expect_refusal("trust.desired.signature", since_ms)
    stage.push()


# -- clocks


@pytest.mark.parametrize("attack", each(CLOCKS))
def test_a_wrong_clock_holds_up_what_cannot_be_judged_and_no_more(stage: Stage, attack: Attack) -> None:
    since_ms, running = stage.wait_until_calm(), stage.running
    stage.release()
    ahead_s = {
        "clock in 1970": 300 - time.time(),
        "clock in 2099": 73 * YEAR_S,
        "clock in 2040": 14 * YEAR_S,
        "indefinite freeze": 31 * DAY_S,
    }
    stage.clock.set(ahead_s[attack.name])
    if attack.who is Who.MIRROR:
        stage.mirror.lie = only(copy_of(stage.trust))
    rollout = stage.order()
    if attack.code:
        stage.expect_refusal(attack.code, since_ms)
        assert stage.running == running
        assert stage.client.rollout(rollout).state == "running"
        stage.clock.set(0)
    stage.expect_success(rollout)


# -- files


@pytest.mark.parametrize("attack", each(FILES))
def test_a_model_that_was_swapped_on_the_disk_is_not_loaded(stage: Stage, attack: Attack) -> None:
    """The worker that runs has sealed what it verified; the next one looks, and the model comes again."""
    since_ms, (manifest, version) = stage.wait_until_calm(), current(stage)
    (model,) = (stage.agent.state / "slots").rglob(f"*{manifest[:12]}*/model.tflite")
    good = model.read_bytes()
    replace_file(model, make_tiny_model(seed=666))
    asked = stage.asked
    assert asked is not None
    answered = asked.answers[version]
    wait_for("more answers", lambda: asked.answers[version] > answered + 3)
    stage.check_answers()
    kill_worker(stage)
    stage.expect_refusal(attack.code, since_ms)
    wait_for("the good model to be back", lambda: model.exists() and model.read_bytes() == good)
    wait_for("the device to run it", lambda: stage.running == version)
    asked.failures.clear()  # whatever was on its way when the worker was killed
    stage.push()


def replace_file(file: Path, content: bytes) -> None:
    beside = file.with_name("beside")
    beside.write_bytes(content)
    beside.replace(file)


def kill_worker(stage: Stage) -> None:
    (worker,) = (
        one for one in psutil.Process(stage.agent.pid).children() if "fleet_agent.worker" in one.cmdline()
    )
    worker.kill()


def find(name: str) -> Attack:
    return next(one for one in KEYS if one.name == name)


def forge_timestamp(timestamp: bytes) -> bytes:
    metadata: Metadata[Timestamp] = Metadata.from_bytes(timestamp)
    metadata.signed.version += 1
    metadata.signatures.clear()
    metadata.sign(CryptoSigner(Ed25519PrivateKey.generate()))
    return metadata.to_bytes()


def other_manifests(before: Mapping[str, bytes]) -> Lie:
    """Serve an older manifest in the place of each that is not there yet."""
    old = next(raw for path, raw in before.items() if path.startswith("targets/manifests/"))
    return lambda path: old if path.startswith("targets/manifests/") and path not in before else None
