"""The release repository as a TUF client sees it: bins, keys that are replaced, attackers with a key."""

import json
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from fleet_cloud.adapters.trust import controller_trust as trust_module
from fleet_cloud.adapters.trust import roles
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.errors import CloudError, NotFound, SettingsError
from fleet_shared.envelope import ASSIGNMENT_KEY_TARGET, AUTHORITIES_TARGET, AssignmentKey, manifest_target
from fleet_shared.names import Digest, digest_of
from fleet_shared.wire import decode
from tests.kit.release_client import ReleaseClient


def release(trust: ControllerTrust, text: str) -> Digest:
    raw = text.encode()
    trust.release({digest_of(raw): raw})
    return digest_of(raw)


@pytest.fixture
def trust(tmp_path: Path) -> ControllerTrust:
    return ControllerTrust(tmp_path / "trust")


@pytest.fixture
def device(trust: ControllerTrust, tmp_path: Path) -> ReleaseClient:
    return ReleaseClient(tmp_path / "trust", tmp_path / "device", trust.repository.root_json)


def key_of(trust: ControllerTrust, role: str) -> CryptoSigner:
    """Steal the key of a role."""
    (keyid,) = trust.repository.root().roles[role].keyids
    signer = trust.repository.signers.find(keyid)
    assert isinstance(signer, CryptoSigner)
    return signer


def test_a_manifest_lies_in_a_bin_and_nowhere_else(trust: ControllerTrust, device: ReleaseClient) -> None:
    assert device.fetch(manifest_target(digest_of(b"one"))) is None
    digest = release(trust, "one")
    assert device.fetch(manifest_target(digest)) == b"one"
    assert device.fetch(manifest_target(digest_of(b"two"))) is None
    assert list(trust.repository.targets().targets) == [ASSIGNMENT_KEY_TARGET]
    assert trust.unsigned([digest, digest_of(b"two")]) == {digest_of(b"two")}


def test_a_release_writes_its_own_bin_only(trust: ControllerTrust, device: ReleaseClient) -> None:
    device.fetch(manifest_target(release(trust, "one")))
    before = trust.repository.files.versions()
    digest = release(trust, "two")
    after = trust.repository.files.versions()
    role = roles.role_of(trust.repository.targets(), manifest_target(digest))
    assert {name for name in after if after[name] != before[name]} == {role, Snapshot.type}
    fetched = device.measure(manifest_target(digest))
    names = {path.split(".", 1)[1].partition(".json")[0] for path in fetched if path.startswith("metadata")}
    assert names == {"json", Snapshot.type, role}, "timestamp, snapshot, and the one bin"


def test_an_older_repository_without_bins_is_carried_over(
    tmp_path: Path, trust: ControllerTrust, device: ReleaseClient
) -> None:
    files, signer = trust.repository.files, key_of(trust, Targets.type)
    flat = trust.repository.newest(Targets.type)
    raw = b"of an older version"
    path = manifest_target(digest_of(raw))
    flat.signed.targets[path] = roles.describe_target(path, raw)
    flat.signed.version += 1
    flat.sign(signer)
    files.write(Targets.type, flat)
    files.write_target(path, raw)
    trust.refresh(int(time.time() * 1000))
    (tmp_path / "trust" / "signers.json").unlink()
    again = ControllerTrust(tmp_path / "trust")
    assert device.fetch(path) == raw
    assert path not in again.repository.targets().targets
    assert again.unsigned([digest_of(raw)]) == frozenset()


@pytest.mark.parametrize("role", [*roles.ROLES, "assignment"])
def test_every_role_gets_other_keys_and_devices_go_on(
    trust: ControllerTrust, device: ReleaseClient, tmp_path: Path, role: str
) -> None:
    first = release(trust, "before")
    assert device.fetch(manifest_target(first)) == b"before"
    old = trust.standing()
    new = trust.rotate(role, [])
    if role == "assignment":
        assert (old.key_epoch, new.key_epoch) == (1, 2)
        assert new.assignment_keyid != old.assignment_keyid
        released = device.fetch(ASSIGNMENT_KEY_TARGET)
        assert released is not None
        assert decode(AssignmentKey, released).key_epoch == 2
    else:
        assert new.root_version == old.root_version + 1
        keys = {one.role: one.keyids for one in new.roles}
        assert not set(keys[role]) & {keyid for one in old.roles if one.role == role for keyid in one.keyids}
    second = release(trust, "after")
    assert device.fetch(manifest_target(second)) == b"after"
    assert device.fetch(manifest_target(first)) == b"before"
    again = ControllerTrust(tmp_path / "trust")
    assert again.key_epoch == new.key_epoch
    third = release(again, "after a restart")
    fresh = ReleaseClient(tmp_path / "trust", tmp_path / "fresh", trust.repository.root_json)
    for client in (device, fresh):
        assert client.fetch(manifest_target(third)) == b"after a restart"


def test_all_keys_can_be_replaced_again_and_again(trust: ControllerTrust, device: ReleaseClient) -> None:
    for number in range(3):
        for role in roles.ROLES:
            trust.rotate(role, [])
        assert device.fetch(manifest_target(release(trust, f"{number}"))) == f"{number}".encode()
    assert trust.standing().root_version == 13


def test_keys_that_stand_nowhere_can_be_destroyed(
    trust: ControllerTrust, device: ReleaseClient, tmp_path: Path
) -> None:
    for role in (*roles.ROLES, "assignment"):
        trust.rotate(role, [])
        (tmp_path / "trust" / "keys" / f"{role}.pem").unlink()
    again = ControllerTrust(tmp_path / "trust")
    assert device.fetch(manifest_target(release(again, "one"))) == b"one"
    assert len(again.repository.signers.keyids) == 5


@pytest.mark.parametrize("role", roles.ROLES)
def test_a_client_at_any_instant_of_a_rotation_sees_a_valid_repository(
    trust: ControllerTrust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    digest = release(trust, "before")
    path = manifest_target(digest)
    written: list[str] = []
    files = trust.repository.files
    old = ReleaseClient(tmp_path / "trust", tmp_path / "old", trust.repository.root_json)
    assert old.fetch(path) == b"before"

    def looking(do: Callable[..., None]) -> Callable[..., None]:
        def look(*args: object) -> None:
            do(*args)
            written.append(str(args[0]))
            shutil.copytree(tmp_path / "old", tmp_path / f"old{len(written)}")
            for name in (f"old{len(written)}", f"new{len(written)}"):
                client = ReleaseClient(tmp_path / "trust", tmp_path / name, trust.repository.root_json)
                assert client.fetch(path) == b"before", f"after {written}"

        return look

    monkeypatch.setattr(type(files), "write", looking_method(files, looking))
    trust.rotate(role, [])
    assert Root.type in written


def looking_method(files: object, looking: Callable[..., Callable[..., None]]) -> Callable[..., None]:
    original = type(files).write  # type: ignore[attr-defined]

    def write(self: object, role: str, metadata: object) -> None:
        looking(lambda _role, _metadata: original(self, role, metadata))(role, metadata)

    return write


def test_a_rotation_that_is_killed_goes_on_at_the_next_start(
    trust: ControllerTrust, device: ReleaseClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = manifest_target(release(trust, "before"))
    original = type(trust.repository.files).write

    class KilledError(Exception):
        pass

    for instant in (Targets.type, Snapshot.type, Timestamp.type, Root.type):

        def write(self: object, role: str, metadata: object, instant: str = instant) -> None:
            if role == instant:
                raise KilledError
            original(self, role, metadata)  # type: ignore[arg-type]

        before = trust.standing().root_version
        with monkeypatch.context() as patched:
            patched.setattr(type(trust.repository.files), "write", write)
            with pytest.raises(KilledError):
                trust.rotate(Targets.type, [])
        assert device.fetch(path) == b"before"
        trust = ControllerTrust(tmp_path / "trust")
        assert trust.standing().root_version == before + 1, f"killed at {instant}"
        assert device.fetch(path) == b"before"
        assert trust.standing().waiting == ()


def fast_forward(trust: ControllerTrust, *, with_snapshot: bool = True) -> dict[str, bytes]:
    """Sign metadata of versions that no honest release reaches, with stolen online keys."""
    far = 2**40
    snapshot, timestamp = (trust.repository.newest(role) for role in roles.ONLINE_ROLES)
    files = {}
    if with_snapshot:
        snapshot.signed.version = far
        snapshot.sign(key_of(trust, Snapshot.type))
        files[f"{far}.snapshot.json"] = snapshot.to_bytes()
        timestamp.signed.snapshot_meta = MetaFile(far)
    timestamp.signed.version = far
    timestamp.sign(key_of(trust, Timestamp.type))
    return {**files, "timestamp.json": timestamp.to_bytes()}


def test_devices_that_were_fast_forwarded_recover_once_the_online_keys_are_replaced(
    trust: ControllerTrust, tmp_path: Path
) -> None:
    digest = release(trust, "before")
    mirror = tmp_path / "mirror"
    shutil.copytree(tmp_path / "trust", mirror)
    for name, raw in fast_forward(trust).items():
        (mirror / "metadata" / name).write_bytes(raw)
    state = tmp_path / "device"
    attacked = ReleaseClient(mirror, state, trust.repository.root_json)
    assert attacked.fetch(manifest_target(digest)) == b"before"
    device = ReleaseClient(tmp_path / "trust", state, trust.repository.root_json)
    after = release(trust, "after")
    with pytest.raises(RepositoryError):
        device.fetch(manifest_target(after))
    trust.rotate(Snapshot.type, [])
    trust.rotate(Timestamp.type, [])
    assert device.fetch(manifest_target(after)) == b"after"
    with pytest.raises(RepositoryError):
        attacked.fetch(manifest_target(digest))


def test_a_key_that_was_revoked_signs_nothing_any_more(
    trust: ControllerTrust, device: ReleaseClient, tmp_path: Path
) -> None:
    """With all keys but the root's an attacker releases what he likes, until they are revoked."""
    digest = release(trust, "honest")
    assert device.fetch(manifest_target(digest)) == b"honest"
    stolen = {role: key_of(trust, role) for role in (Targets.type, *roles.ONLINE_ROLES)}
    evil = forge(trust, tmp_path / "mirror", stolen, b"evil")
    victim = ReleaseClient(tmp_path / "mirror", tmp_path / "victim", trust.repository.root_json)
    assert victim.fetch(evil) == b"evil", "with all these keys it is released"
    for keyid in {signer.public_key.keyid for signer in stolen.values()}:
        trust.revoke(keyid)
    assert device.fetch(manifest_target(digest)) == b"honest"
    for version in range(2, trust.standing().root_version + 1):
        shutil.copy(
            tmp_path / "trust" / "metadata" / f"{version}.root.json", tmp_path / "mirror" / "metadata"
        )
    with pytest.raises(RepositoryError):
        victim.fetch(evil)
    with pytest.raises(RepositoryError):
        ReleaseClient(tmp_path / "mirror", tmp_path / "device", trust.repository.root_json).fetch(evil)


def forge(trust: ControllerTrust, mirror: Path, keys: dict[str, CryptoSigner], content: bytes) -> str:
    """Make a mirror that lists ``content`` among the targets, signed with what was stolen."""
    shutil.copytree(trust.repository.files.metadata_dir.parent, mirror)
    path, folder = manifest_target(digest_of(content)), mirror / "metadata"
    targets, snapshot, timestamp = (
        deepcopy(trust.repository.newest(role)) for role in (Targets.type, *roles.ONLINE_ROLES)
    )
    targets.signed.targets[path] = roles.describe_target(path, content)
    targets.signed.version += 1
    targets.sign(keys[Targets.type])
    snapshot.signed.meta["targets.json"] = MetaFile(targets.signed.version)
    snapshot.signed.version += 1
    snapshot.sign(keys[Snapshot.type])
    timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
    timestamp.signed.version += 1
    timestamp.sign(keys[Timestamp.type])
    for metadata, name in ((targets, "targets"), (snapshot, "snapshot")):
        (folder / f"{metadata.signed.version}.{name}.json").write_bytes(metadata.to_bytes())
    (folder / "timestamp.json").write_bytes(timestamp.to_bytes())
    (mirror / "targets" / "manifests").mkdir(exist_ok=True)
    (mirror / "targets" / "manifests" / f"{digest_of(content)}.{path.rpartition('/')[2]}").write_bytes(
        content
    )
    return path


def test_revoking_needs_a_key_that_is_known(trust: ControllerTrust) -> None:
    with pytest.raises(NotFound) as caught:
        trust.revoke("0" * 64)
    assert caught.value.code == "trust.key.unknown"


def test_the_assignment_key_is_revoked_by_another(trust: ControllerTrust) -> None:
    old = trust.standing().assignment_keyid
    assert trust.revoke(old).assignment_keyid != old
    assert trust.key_epoch == 2


def test_the_bins_of_a_mirror_cannot_be_exchanged(
    trust: ControllerTrust, device: ReleaseClient, tmp_path: Path
) -> None:
    """Bins are signed by the same keys and do not name themselves: the snapshot holds their hashes."""
    digest = release(trust, "one")
    path = manifest_target(digest)
    role = roles.role_of(trust.repository.targets(), path)
    other = next(name for name in roles.bins_of(trust.repository.targets()) if name != role)
    files = trust.repository.files
    versions = files.versions()
    shutil.copy(files.file(other, max(versions[other])), files.file(role, max(versions[role])))
    with pytest.raises(RepositoryError):
        device.fetch(path)


def test_authorities_are_released_for_every_device(trust: ControllerTrust, device: ReleaseClient) -> None:
    before = trust.newest_timestamp()
    trust.release_authorities(["one", "two"])
    raw = device.fetch(AUTHORITIES_TARGET)
    assert raw is not None
    assert json.loads(raw)["pem"] == ["one", "two"]
    assert trust.newest_timestamp() != before
    assert trust.newest_timestamp() == (trust.repository.files.metadata_dir / "timestamp.json").read_bytes()


def test_what_ends_soon_is_signed_again(trust: ControllerTrust, device: ReleaseClient) -> None:
    path = manifest_target(release(trust, "one"))
    now_ms = int(time.time() * 1000)
    day_ms = 24 * 3600 * 1000
    before = {one.role: one.expires_ms for one in trust.standing().roles}
    trust.refresh(now_ms)
    assert {one.role: one.expires_ms for one in trust.standing().roles} == before
    trust.refresh(now_ms + 360 * day_ms)
    after = trust.standing()
    versions = trust.repository.files.versions()
    assert all(len(versions[name]) == 2 for name in roles.bins_of(trust.repository.targets()) if name != path)
    assert all(one.expires_ms >= before[one.role] for one in after.roles)
    assert device.fetch(path) == b"one"


def test_a_repository_restored_from_an_older_copy_goes_above_what_was_announced(
    trust: ControllerTrust, device: ReleaseClient, tmp_path: Path
) -> None:
    first = release(trust, "first")
    shutil.copytree(tmp_path / "trust", tmp_path / "copy")
    for number in range(5):
        lost = release(trust, f"lost {number}")
    assert device.fetch(manifest_target(lost)) == b"lost 4"
    announced = trust.newest_timestamp()
    shutil.rmtree(tmp_path / "trust")
    shutil.move(tmp_path / "copy", tmp_path / "trust")
    restored = ControllerTrust(tmp_path / "trust")
    second = release(restored, "second")
    with pytest.raises(RepositoryError):
        device.fetch(manifest_target(second))
    assert restored.catch_up(announced)
    assert not restored.catch_up(announced)
    assert device.fetch(manifest_target(second)) == b"second"
    assert device.fetch(manifest_target(first)) == b"first"
    assert restored.unsigned([lost]) == {lost}


def test_what_somebody_else_announces_changes_nothing(trust: ControllerTrust, tmp_path: Path) -> None:
    stranger = ControllerTrust(tmp_path / "stranger")
    far = fast_forward(stranger, with_snapshot=False)["timestamp.json"]
    before = trust.newest_timestamp()
    for seen in (far, b"", b"{}", b"\xff", trust.repository.root_json):
        assert not trust.catch_up(seen)
    assert trust.newest_timestamp() == before


def test_a_signer_that_is_lost_is_said_at_the_start(trust: ControllerTrust, tmp_path: Path) -> None:
    trust.repository.signers.keep([])
    (tmp_path / "trust" / "keys" / "timestamp.pem").unlink()
    with pytest.raises(SettingsError) as caught:
        ControllerTrust(tmp_path / "trust")
    assert caught.value.code == "trust.keys"


def test_there_is_no_other_role(trust: ControllerTrust) -> None:
    with pytest.raises(CloudError) as caught:
        trust.rotate("mirrors", [])
    assert caught.value.code == "trust.rotate"
    assert trust_module.ASSIGNMENT in caught.value.hint


def test_ten_thousand_manifests_stay_cheap(
    trust: ControllerTrust, device: ReleaseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [f"{number}".encode() for number in range(10_000)]
    with monkeypatch.context() as patched:  # the files of these are of no interest
        patched.setattr(trust.repository.files, "write_target", lambda *_: None)
        trust.release({digest_of(raw): raw for raw in many})
    assert device.fetch(manifest_target(release(trust, "one"))) == b"one"
    fetched = device.measure(manifest_target(release(trust, "two")))
    assert sum(fetched.values()) < 50_000, fetched
    assert len(fetched) == 4, "timestamp, snapshot, bin, manifest"


def test_documents_are_what_they_say(trust: ControllerTrust) -> None:
    for role, kind in ((Root.type, Root), (Targets.type, Targets)):
        raw = trust.repository.newest(role).to_bytes()
        assert isinstance(Metadata.from_bytes(raw).signed, kind)
