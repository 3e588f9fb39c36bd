"""Keys that lie elsewhere: a repository begun without the controller, files carried to the keys and back."""

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Metadata, Root, TargetFile, Targets

from fleet_cloud.adapters.trust import roles
from fleet_cloud.adapters.trust.ceremony import (
    Holders,
    begin_repository,
    make_key,
    public_file,
    resolve_uri,
)
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.adapters.trust.signers import Signers
from fleet_cloud.adapters.trust.signing import Signing
from fleet_cloud.errors import CloudError, Conflict, Invalid, SettingsError
from fleet_shared.envelope import AUTHORITIES_TARGET, manifest_target
from fleet_shared.names import Digest, digest_of
from tests.kit.device_edges import make_manifest
from tests.kit.release_client import ReleaseClient

PASSPHRASE = "correct horse"


def secret(_name: str) -> str:
    return PASSPHRASE


class Offline:
    """A machine with keys, a controller without them, and a device."""

    def __init__(self, folder: Path, *, people: int = 1, threshold: int = 1) -> None:
        self.folder, self.trust_dir = folder, folder / "controller" / "trust"
        self.root = [self.make("root", number) for number in range(people)]
        self.targets = [self.make("targets", number) for number in range(people)]
        begin_repository(
            self.trust_dir,
            Holders([resolve_uri(str(file)) for file in self.root], threshold=threshold),
            Holders([resolve_uri(str(file)) for file in self.targets], threshold=threshold),
            secret,
        )
        self.trust = ControllerTrust(self.trust_dir)
        self.device = ReleaseClient(self.trust_dir, folder / "device", self.trust.repository.root_json)

    def make(self, role: str, number: int) -> Path:
        file = self.folder / "safe" / f"{role}{number}.pem"
        make_key(file, PASSPHRASE)
        return file

    def sign(self, *keys: Path, raw: bytes | None = None) -> bytes:
        signing = Signing(raw or self.trust.to_sign(), [resolve_uri(str(key)) for key in keys], secret)
        return signing.sign()[0]

    def release(self, version: str) -> Digest:
        raw = make_manifest(version)
        self.trust.release({digest_of(raw): raw})
        return digest_of(raw)


@pytest.fixture
def offline(tmp_path: Path) -> Offline:
    return Offline(tmp_path)


def code_of(error: pytest.ExceptionInfo[CloudError]) -> str:
    return error.value.code


def test_a_version_waits_until_somebody_has_signed_it(offline: Offline) -> None:
    digest = offline.release("1.0.0")
    path = manifest_target(digest)
    assert offline.trust.unsigned([digest]) == {digest}
    assert offline.device.fetch(path) is None
    (waiting,) = offline.trust.standing().waiting
    assert (waiting.missing, len(waiting.keyids)) == (1, 1)
    after = offline.trust.take_signed(offline.sign(offline.targets[0]))
    assert after.waiting == ()
    assert offline.device.fetch(path) == make_manifest("1.0.0")
    assert offline.trust.unsigned([digest]) == frozenset()


def test_what_waits_survives_a_restart_and_is_added_to(offline: Offline) -> None:
    first, second = offline.release("1.0.0"), offline.release("1.1.0")
    offline.trust = ControllerTrust(offline.trust_dir)
    third = offline.release("1.2.0")
    offline.trust.take_signed(offline.sign(offline.targets[0]))
    assert offline.trust.unsigned([first, second, third]) == frozenset()
    assert offline.device.fetch(manifest_target(second)) is not None


def test_the_controller_has_no_key_that_releases(offline: Offline) -> None:
    standing = {one.role: one for one in offline.trust.standing().roles}
    assert standing[Root.type].at_hand == standing[Targets.type].at_hand == ()
    assert len(standing["timestamp"].at_hand) == 1
    names = {file.name for file in (offline.trust_dir / "keys").iterdir()}
    assert not {"root.pem", "targets.pem"} & names


def test_whoever_signs_sees_what_it_is_about(offline: Offline) -> None:
    digest = offline.release("1.0.0")
    offline.trust.release_authorities(["a", "b"])
    offline.trust.rotate("assignment", [])
    signing = Signing(offline.trust.to_sign(), [resolve_uri(str(offline.targets[0]))], secret)
    lines = "\n".join(signing.describe())
    assert "m:1.0.0 (int8)" in lines or f"({json.loads(make_manifest('1.0.0'))['variant']})" in lines
    assert digest in lines
    assert "2 certificate authorities" in lines
    assert "assignment key of epoch 2" in lines
    assert len(signing.describe()) == 3


def test_what_a_controller_calls_published_is_new_to_whoever_never_signed_it(offline: Offline) -> None:
    """A stolen controller would hide a manifest by saying that it is published already."""
    digest = offline.release("6.6.6")
    document = json.loads(offline.trust.to_sign())
    document["published"] = dict(document["staged"])
    hidden = json.dumps(document).encode()
    (line,) = Signing(hidden, [resolve_uri(str(offline.targets[0]))], secret).describe()
    assert digest in line


def tampered(offline: Offline, role: str, change: Callable[[Any], None]) -> bytes:
    """Return what a stolen controller would have people sign: all that waits, with ``role`` changed."""
    document = json.loads(offline.trust.to_sign())
    metadata = Metadata.from_bytes(document["staged"][role].encode())
    change(metadata.signed)
    document["staged"][role] = metadata.to_bytes().decode()
    return json.dumps(document).encode()


def lines_of(offline: Offline, raw: bytes, key: Path) -> list[str]:
    return Signing(raw, [resolve_uri(str(key))], secret).describe()


def thief() -> SSlibKey:
    key: SSlibKey = CryptoSigner.generate_ed25519().public_key
    return key


def test_whoever_signs_sees_that_others_are_to_sign_manifests(offline: Offline) -> None:
    """Nothing is new in the list: the thief's key would list manifests in another."""
    offline.trust.rotate("assignment", [])
    key = thief()

    def hand_over(targets: Targets) -> None:
        assert targets.delegations is not None
        assert targets.delegations.succinct_roles is not None
        targets.delegations.keys[key.keyid] = key
        targets.delegations.succinct_roles.keyids.append(key.keyid)

    before = lines_of(offline, offline.trust.to_sign(), offline.targets[0])
    after = lines_of(offline, tampered(offline, "targets", hand_over), offline.targets[0])
    (line,) = set(after) - set(before)
    assert key.keyid[:12] in line
    assert "manifests are signed by 1 of 2" in line


def _delegate(targets: Targets) -> None:
    assert targets.delegations is not None
    key = thief()
    targets.delegations.keys[key.keyid] = key
    targets.delegations.succinct_roles = None
    targets.delegations.roles = {"more": DelegatedRole("more", [key.keyid], 1, False, paths=["*"])}


def _exchange(signed: Root | Targets) -> None:
    """Another key under the id of one that is known."""
    keys = signed.keys if isinstance(signed, Root) else signed.delegations.keys if signed.delegations else {}
    keyid = next(iter(keys))
    keys[keyid] = SSlibKey(keyid, "ed25519", "ed25519", thief().keyval)


def _other_prefix(targets: Targets) -> None:
    assert targets.delegations is not None
    assert targets.delegations.succinct_roles is not None
    targets.delegations.succinct_roles.name_prefix = "others"


@pytest.mark.parametrize(
    ("role", "change"),
    [("targets", _delegate), ("targets", _exchange), ("targets", _other_prefix), ("root", _exchange)],
)
def test_what_fleet_does_not_make_is_not_signed_unseen(
    offline: Offline, role: str, change: Callable[[Any], None]
) -> None:
    offline.trust.rotate("assignment", [])
    offline.trust.rotate("timestamp", [])
    raw = tampered(offline, role, change)
    with pytest.raises(Invalid) as caught:
        Signing(raw, [resolve_uri(str(offline.targets[0]))], secret)
    assert code_of(caught) == "trust.sign.shape"


def test_a_document_of_another_kind_is_not_signed(offline: Offline) -> None:
    offline.release("1.0.0")
    document = json.loads(offline.trust.to_sign())
    role = next(iter(document["staged"]))
    document["staged"][role] = document["root"]
    with pytest.raises(Invalid) as caught:
        Signing(json.dumps(document).encode(), [resolve_uri(str(offline.targets[0]))], secret)
    assert code_of(caught) == "trust.sign.shape"


def test_no_name_hides_a_line_on_the_terminal(offline: Offline) -> None:
    offline.trust.rotate("assignment", [])
    name = "manifests/\x1b[1A\x1b[2K\r\n\u202e"

    def add(targets: Targets) -> None:
        targets.targets[name] = TargetFile.from_data(name, b"evil", ["sha256"])

    lines = lines_of(offline, tampered(offline, "targets", add), offline.targets[0])
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b[1A" in line for line in lines)


def test_whoever_signs_can_compare_key_and_authorities(offline: Offline) -> None:
    offline.trust.release_authorities(offline.trust.authority.pems)
    offline.trust.rotate("assignment", [])
    text = "\n".join(lines_of(offline, offline.trust.to_sign(), offline.targets[0]))
    assert offline.trust.authority.fingerprints[0][:16] in text
    keys = {file.stem for file in (offline.trust_dir / "keys").glob("assignment*.pem")}
    assert keys == {"assignment", "assignment-2"}
    fresh = offline.trust.keys.signer("assignment-2", make=False).public_key.keyid
    assert f"assignment key of epoch 2: {fresh[:12]}" in text


def test_a_public_key_under_the_id_of_another_stands_for_nothing(offline: Offline) -> None:
    public = json.loads(public_file(offline.targets[0]).read_text())
    public["public"]["keyval"] = thief().keyval
    with pytest.raises(Invalid) as caught:
        offline.trust.rotate("targets", [json.dumps(public)])
    assert code_of(caught) == "trust.key"


def test_a_manifest_that_is_not_the_one_to_be_signed_is_seen(offline: Offline) -> None:
    offline.release("1.0.0")
    document = json.loads(offline.trust.to_sign())
    (path,) = document["targets"]
    document["targets"][path] = make_manifest("9.9.9").decode()
    with pytest.raises(Invalid) as caught:
        offline.sign(offline.targets[0], raw=json.dumps(document).encode())
    assert code_of(caught) == "trust.sign.target"


def test_what_comes_back_must_be_what_went_out(offline: Offline) -> None:
    offline.release("1.0.0")
    old = offline.sign(offline.targets[0])
    evil = json.loads(offline.trust.to_sign())
    (role,) = evil["staged"]
    changed = Metadata[Targets].from_bytes(evil["staged"][role].encode())
    path = manifest_target(digest_of(b"evil"))
    changed.signed.targets[path] = roles.describe_target(path, b"evil")
    evil["staged"][role] = changed.to_bytes().decode()
    with pytest.raises(Conflict) as caught:
        offline.trust.take_signed(offline.sign(offline.targets[0], raw=json.dumps(evil).encode()))
    assert code_of(caught) == "trust.sign.changed"
    assert offline.device.fetch(path) is None
    offline.trust.take_signed(old)
    with pytest.raises(Conflict) as caught:
        offline.trust.take_signed(old)
    assert code_of(caught) == "trust.sign.changed"


def test_a_wrong_signature_is_refused(offline: Offline) -> None:
    offline.release("1.0.0")
    document = json.loads(offline.sign(offline.targets[0]))
    (role,) = document["staged"]
    metadata = json.loads(document["staged"][role])
    metadata["signatures"][0]["sig"] = "00" * 64
    document["staged"][role] = json.dumps(metadata)
    with pytest.raises(Invalid) as caught:
        offline.trust.take_signed(json.dumps(document).encode())
    assert code_of(caught) == "trust.sign.signature"


def test_a_file_without_a_new_signature_is_said(offline: Offline) -> None:
    with pytest.raises(Conflict) as caught:
        offline.trust.to_sign()
    assert code_of(caught) == "trust.sign.nothing"
    offline.release("1.0.0")
    with pytest.raises(Conflict) as caught:
        offline.trust.take_signed(offline.trust.to_sign())
    assert code_of(caught) == "trust.sign.nothing"


def test_a_key_that_has_no_say_is_said(offline: Offline) -> None:
    offline.release("1.0.0")
    with pytest.raises(Invalid) as caught:
        offline.sign(offline.make("targets", 9))
    assert code_of(caught) == "trust.sign.key"


def test_two_of_three_must_sign(tmp_path: Path) -> None:
    offline = Offline(tmp_path, people=3, threshold=2)
    path = manifest_target(offline.release("1.0.0"))
    alone = offline.trust.take_signed(offline.sign(offline.targets[0]))
    assert alone.waiting[0].missing == 1
    assert offline.targets[0].name not in str(alone.waiting[0].keyids)
    assert offline.device.fetch(path) is None
    assert offline.trust.take_signed(offline.sign(offline.targets[2])).waiting == ()
    assert offline.device.fetch(path) is not None


def test_fewer_must_not_sign_than_before_unless_it_is_said(tmp_path: Path) -> None:
    offline = Offline(tmp_path, people=2, threshold=2)
    alone = [public_file(offline.make("targets", 9)).read_text()]
    with pytest.raises(Invalid) as caught:
        offline.trust.rotate(Targets.type, alone)
    assert code_of(caught) == "trust.rotate.threshold"
    offline.trust.rotate(Targets.type, alone, threshold=1)
    assert offline.trust.standing().waiting


def test_devices_refuse_what_one_of_two_keys_signed(tmp_path: Path) -> None:
    """A key compromise under the threshold: the controller's online keys and one targets key are stolen."""
    offline = Offline(tmp_path, people=3, threshold=2)
    path = manifest_target(offline.release("1.0.0"))
    role = roles.role_of(offline.trust.repository.targets(), path)
    offline.trust.take_signed(offline.sign(offline.targets[0]))
    forced = offline.trust.repository.staged()[role]
    offline.trust.repository.files.write(role, forced)
    offline.trust.repository._publishing.bring_up([offline.trust.repository.root()])
    with pytest.raises(RepositoryError):
        offline.device.fetch(path)


def test_offline_keys_are_replaced_by_a_root_that_the_old_and_the_new_ones_sign(offline: Offline) -> None:
    path = manifest_target(offline.release("1.0.0"))
    offline.trust.take_signed(offline.sign(offline.targets[0]))
    with pytest.raises(Invalid) as caught:
        offline.trust.rotate(Root.type, [])
    assert code_of(caught) == "trust.rotate.offline"
    new_root, new_targets = offline.make("root", 7), offline.make("targets", 7)
    offline.trust.rotate(Root.type, [public_file(new_root).read_text()])
    offline.trust.rotate(Targets.type, [public_file(new_targets).read_text()])
    assert offline.trust.standing().root_version == 1
    some = offline.sign(offline.root[0], offline.targets[0])
    offline.trust.take_signed(some)
    assert offline.trust.standing().root_version == 1, "the new root key has not signed"
    assert offline.device.fetch(path) is not None
    after = offline.trust.take_signed(offline.sign(new_root, new_targets))
    assert (after.root_version, after.waiting) == (2, ())
    assert offline.device.fetch(path) is not None
    assert offline.device.root_version == 2
    second = manifest_target(offline.release("2.0.0"))
    with pytest.raises(Invalid):
        offline.sign(offline.targets[0])
    offline.trust.take_signed(offline.sign(new_targets))
    assert offline.device.fetch(second) is not None


def test_a_lost_targets_key_is_replaced_without_it(offline: Offline) -> None:
    path = manifest_target(offline.release("1.0.0"))
    offline.trust.take_signed(offline.sign(offline.targets[0]))
    new = offline.make("targets", 7)
    offline.trust.rotate(Targets.type, [public_file(new).read_text()])
    after = offline.trust.take_signed(offline.sign(offline.root[0], new))
    assert (after.root_version, after.waiting) == (2, ())
    assert offline.device.fetch(path) is not None


def test_releases_go_on_while_a_root_waits(tmp_path: Path) -> None:
    """Targets keys at hand, root keys elsewhere: a rotation that waits for the root holds up nothing."""
    trust_dir = tmp_path / "trust"
    root, targets = tmp_path / "root.pem", trust_dir / "keys" / "targets.pem"
    make_key(root, PASSPHRASE)
    make_key(targets, "")
    begin_repository(
        trust_dir, Holders([resolve_uri(str(root))]), Holders([resolve_uri(str(targets))]), secret
    )
    trust = ControllerTrust(trust_dir)
    from fleet_cloud.adapters.trust.signers import refer_to

    trust.repository.signers.add(refer_to("file:keys/targets.pem", trust_dir, secret)[0])
    device = ReleaseClient(trust_dir, tmp_path / "device", trust.repository.root_json)
    trust.rotate(Targets.type, [])
    assert [one.role for one in trust.standing().waiting] == [Root.type]
    trust.release({digest_of(b"one"): b"one"})
    assert device.fetch(manifest_target(digest_of(b"one"))) == b"one"
    signed, _ = Signing(trust.to_sign(), [resolve_uri(str(root))], secret).sign()
    assert trust.take_signed(signed).waiting == ()
    trust.release({digest_of(b"two"): b"two"})
    assert device.fetch(manifest_target(digest_of(b"two"))) == b"two"
    assert device.fetch(manifest_target(digest_of(b"one"))) == b"one"
    assert device.root_version == 2


def test_an_online_key_is_replaced_once_the_offline_root_agrees(offline: Offline) -> None:
    path = manifest_target(offline.release("1.0.0"))
    offline.trust.take_signed(offline.sign(offline.targets[0]))
    stolen = next(one.keyids[0] for one in offline.trust.standing().roles if one.role == "timestamp")
    (waiting,) = offline.trust.revoke(stolen).waiting
    assert (waiting.role, waiting.missing) == (Root.type, 1)
    assert offline.device.fetch(path) is not None
    after = offline.trust.take_signed(offline.sign(offline.root[0]))
    assert (after.root_version, after.waiting) == (2, ())
    keys = {one.role: one for one in after.roles}["timestamp"]
    assert stolen not in keys.keyids
    assert keys.at_hand == keys.keyids
    assert offline.device.fetch(path) is not None
    assert offline.device.root_version == 2
    offline.trust = ControllerTrust(offline.trust_dir)
    second = manifest_target(offline.release("2.0.0"))
    offline.trust.take_signed(offline.sign(offline.targets[0]))
    assert offline.device.fetch(second) is not None


def test_the_last_key_of_people_is_not_revoked_without_another(offline: Offline) -> None:
    (keyid,) = next(one.keyids for one in offline.trust.standing().roles if one.role == Root.type)
    with pytest.raises(Invalid) as caught:
        offline.trust.revoke(keyid)
    assert code_of(caught) == "trust.revoke.last"
    assert offline.trust.standing().waiting == ()


def test_an_assignment_key_that_waits_is_kept(offline: Offline) -> None:
    old = offline.trust.standing()
    assert offline.trust.rotate("assignment", []).key_epoch == 1
    offline.trust = ControllerTrust(offline.trust_dir)
    assert offline.trust.standing().assignment_keyid == old.assignment_keyid
    after = offline.trust.take_signed(offline.sign(offline.targets[0]))
    assert after.key_epoch == 2
    assert after.assignment_keyid != old.assignment_keyid
    assert ControllerTrust(offline.trust_dir).key_epoch == 2


def test_authorities_wait_for_offline_targets_keys(offline: Offline) -> None:
    offline.trust.release_authorities(["ca"])
    assert offline.device.fetch(AUTHORITIES_TARGET) is None
    offline.trust.take_signed(offline.sign(offline.targets[0]))
    assert offline.device.fetch(AUTHORITIES_TARGET) is not None


def test_people_are_asked_long_before_what_they_signed_ends(offline: Offline) -> None:
    day_ms = 24 * 3600 * 1000
    ends_ms = next(one.expires_ms for one in offline.trust.standing().roles if one.role == Targets.type)
    offline.trust.refresh(ends_ms - 70 * day_ms)
    assert offline.trust.standing().waiting == ()
    offline.trust.refresh(ends_ms - 50 * day_ms)
    waiting = offline.trust.standing().waiting
    assert len(waiting) == 65
    signed = offline.sign(offline.targets[0])
    offline.trust.refresh(ends_ms - 49 * day_ms)
    assert offline.trust.standing().waiting == waiting, (
        "asking again would make what was carried away useless"
    )
    assert offline.trust.take_signed(signed).waiting == ()


def test_a_key_is_sealed_and_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    make_key(file, PASSPHRASE)
    assert b"ENCRYPTED" in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(Conflict) as caught:
        make_key(file, PASSPHRASE)
    assert code_of(caught) == "trust.key.exists"
    with pytest.raises(SettingsError) as wrong:
        open_with(file, "wrong passphrase")
    assert wrong.value.code == "trust.keys"
    assert "passphrase" in wrong.value.hint


def open_with(file: Path, passphrase: str) -> None:
    from fleet_cloud.adapters.trust.signers import refer_to

    refer_to(resolve_uri(str(file)), Path(), lambda _name: passphrase)


def test_the_data_of_a_controller_are_its_own(offline: Offline) -> None:
    assert stat.S_IMODE(offline.trust_dir.parent.stat().st_mode) == 0o700


def test_a_repository_is_begun_once_and_by_enough_keys(tmp_path: Path) -> None:
    offline = Offline(tmp_path)
    uris = Holders([resolve_uri(str(offline.root[0]))])
    with pytest.raises(Conflict) as exists:
        begin_repository(offline.trust_dir, uris, uris, secret)
    assert code_of(exists) == "trust.init.exists"
    for threshold in (0, 2):
        few = Holders(uris.keys, threshold=threshold)
        with pytest.raises(Invalid) as caught:
            begin_repository(tmp_path / "other", few, uris, secret)
        assert code_of(caught) == "trust.init.threshold"
    other = public_file(offline.targets[0]).read_text()
    with pytest.raises(Invalid) as caught:
        begin_repository(tmp_path / "other", Holders(uris.keys, [other], threshold=2), uris, secret)
    assert "at hand" in caught.value.message
    assert not (tmp_path / "other").exists()


def test_a_beginning_that_was_cut_off_is_not_taken_for_a_lab(offline: Offline) -> None:
    """Keys made by a controller that was to have none would be trusted by all devices."""
    shutil.rmtree(offline.trust_dir / "metadata")
    with pytest.raises(SettingsError) as caught:
        ControllerTrust(offline.trust_dir)
    assert caught.value.code == "trust.init.unfinished"
    assert not (offline.trust_dir / "keys" / "root.pem").exists()
    root, targets = (Holders([resolve_uri(str(files[0]))]) for files in (offline.root, offline.targets))
    begin_repository(offline.trust_dir, root, targets, secret)
    ControllerTrust(offline.trust_dir)


def test_the_keys_of_a_controller_are_not_taken_from_another(tmp_path: Path) -> None:
    offline, other = Offline(tmp_path / "a"), Offline(tmp_path / "b")
    shutil.copy(other.trust_dir / "keys" / "timestamp.pem", offline.trust_dir / "keys")
    with pytest.raises(SettingsError) as caught:
        ControllerTrust(offline.trust_dir)
    assert caught.value.code == "trust.keys"
    assert Signers(offline.trust_dir).keyids
