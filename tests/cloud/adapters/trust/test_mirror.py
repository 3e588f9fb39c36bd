"""The release repository in a bucket: a real S3 server."""

import shutil
import threading
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile, Snapshot

from fleet_cloud.adapters.storage.bucket import Bucket, S3Address
from fleet_cloud.adapters.storage.s3 import S3Releases
from fleet_cloud.adapters.trust import roles
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.errors import SettingsError
from fleet_shared.envelope import manifest_target
from fleet_shared.names import Digest, digest_of
from tests.kit.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from tests.kit.release_client import ReleaseClient


@pytest.fixture
def bucket(s3: ObjectStore, tmp_path: Path) -> S3Releases:
    prefix = f"{tmp_path.name}/"
    return S3Releases(Bucket(S3Address(s3.bucket, prefix, s3.endpoint, "us-east-1", ACCESS_KEY, SECRET_KEY)))


@pytest.fixture
def mirrored(s3: ObjectStore, tmp_path: Path) -> Path:
    """Where the server keeps what is below the prefix."""
    return s3.folder / s3.bucket / tmp_path.name / "releases"


def release(trust: ControllerTrust, text: str) -> Digest:
    trust.release({digest_of(text.encode()): text.encode()})
    trust.copy_out()
    return digest_of(text.encode())


def test_a_device_can_use_the_copy(bucket: S3Releases, mirrored: Path, tmp_path: Path) -> None:
    trust = ControllerTrust(tmp_path / "trust", bucket)
    digest = release(trust, "one")
    device = ReleaseClient(mirrored, tmp_path / "device", trust.repository.root_json)
    assert device.fetch(manifest_target(digest)) == b"one"
    for role in ("root", "targets", "snapshot", "timestamp"):
        trust.rotate(role, [])
    assert device.fetch(manifest_target(release(trust, "two"))) == b"two"
    assert not [path for path in bucket.paths() if "keys/" in path and "assignment" not in path]


def test_the_timestamp_comes_last(bucket: S3Releases, tmp_path: Path) -> None:
    """A device at any instant of a copy finds all that the timestamp speaks for."""
    trust = ControllerTrust(tmp_path / "trust", bucket)
    put: list[str] = []

    class Watched(S3Releases):
        def put(self, path: str, content: bytes) -> None:
            put.append(path)
            super().put(path, content)

    trust._mirror = Watched(bucket._bucket)
    release(trust, "one")
    assert put[-1] == "metadata/timestamp.json"
    kinds = [path.split("/")[0] if path.startswith("targets") else path.split(".")[1] for path in put[:-1]]
    assert kinds.index("targets") == 0
    order = [kind for kind in kinds if kind in ("targets", Snapshot.type, "root")]
    assert order.index(Snapshot.type) > max(i for i, kind in enumerate(order) if kind == "targets")
    assert order[-1] == "root"


def test_a_bucket_that_takes_long_keeps_no_release_waiting(bucket: S3Releases, tmp_path: Path) -> None:
    trust = ControllerTrust(tmp_path / "trust", bucket)
    trust.copy_out()
    asked, go = threading.Event(), threading.Event()

    class Slow(S3Releases):
        def put(self, path: str, content: bytes) -> None:
            asked.set()
            assert go.wait(20)
            super().put(path, content)

    trust.release({digest_of(b"one"): b"one"})
    trust._mirror = Slow(bucket._bucket)
    copying = threading.Thread(target=trust.copy_out)
    copying.start()
    assert asked.wait(20)
    releasing = threading.Thread(target=trust.release, args=({digest_of(b"two"): b"two"},))
    releasing.start()
    releasing.join(10)
    waits = releasing.is_alive()
    go.set()
    copying.join()
    releasing.join()
    assert not waits
    timestamp = bucket.get("metadata/timestamp.json")
    assert timestamp is not None
    assert timestamp != trust.newest_timestamp(), "it speaks for what was copied"
    trust.copy_out()
    assert bucket.get("metadata/timestamp.json") == trust.newest_timestamp()


def test_superseded_metadata_goes_from_the_bucket_too(bucket: S3Releases, tmp_path: Path) -> None:
    trust = ControllerTrust(tmp_path / "trust", bucket)
    release(trust, "one")
    versions = trust.repository.files.versions()[Snapshot.type]
    trust.repository.files.file(Snapshot.type, versions[0]).unlink()
    trust.copy_out()
    assert f"metadata/{versions[0]}.snapshot.json" not in bucket.paths()


def test_an_older_copy_of_the_folder_is_brought_up_to_the_bucket(
    bucket: S3Releases, mirrored: Path, tmp_path: Path
) -> None:
    trust = ControllerTrust(tmp_path / "trust", bucket)
    release(trust, "one")
    shutil.copytree(tmp_path / "trust", tmp_path / "copy")
    lost = release(trust, "lost")
    trust.rotate("root", [])
    trust.copy_out()
    newest = trust.newest_timestamp()
    device = ReleaseClient(mirrored, tmp_path / "device", trust.repository.root_json)
    assert device.fetch(manifest_target(lost)) == b"lost"
    shutil.rmtree(tmp_path / "trust")
    shutil.move(tmp_path / "copy", tmp_path / "trust")
    restored = ControllerTrust(tmp_path / "trust", bucket)
    assert restored.newest_timestamp() == newest
    assert restored.standing().root_version == 2
    assert restored.unsigned([lost]) == frozenset()
    assert device.fetch(manifest_target(release(restored, "after"))) == b"after"


def test_a_bucket_that_was_tampered_with_brings_nothing(bucket: S3Releases, tmp_path: Path) -> None:
    """Whoever can write to the bucket has no key: nothing of it is believed."""
    trust = ControllerTrust(tmp_path / "trust", bucket)
    release(trust, "one")
    shutil.copytree(tmp_path / "trust", tmp_path / "copy")
    release(trust, "two")
    stranger = ControllerTrust(tmp_path / "stranger")
    for path, raw in (
        ("metadata/timestamp.json", stranger.newest_timestamp()),
        ("metadata/2.root.json", stranger.repository.root_json),
    ):
        bucket.put(path, raw)
    restored = ControllerTrust(tmp_path / "copy", bucket)
    assert restored.standing().root_version == 1
    assert restored.unsigned([digest_of(b"two")]) == {digest_of(b"two")}


@pytest.mark.parametrize("stolen", [(), ("timestamp",), ("snapshot", "timestamp")])
def test_a_whole_forged_repository_in_the_bucket_brings_nothing(
    bucket: S3Releases, tmp_path: Path, stolen: tuple[str, ...]
) -> None:
    """Restored, it would be signed again by the controller's own targets keys. The thief has the keys of some
    online roles, and signs the others with his own."""
    trust, thief = ControllerTrust(tmp_path / "trust", bucket), ControllerTrust(tmp_path / "thief")
    release(trust, "one")
    evil = manifest_target(digest_of(b"evil"))
    keys = {role: key_of(trust if role in stolen else thief, role) for role in ("snapshot", "timestamp")}
    bucket.put(evil.replace("manifests/", f"targets/manifests/{digest_of(b'evil')}."), b"evil")
    for path, raw in forge(trust, evil, keys, key_of(thief, "targets")).items():
        bucket.put(path, raw)
    restored = ControllerTrust(tmp_path / "trust", bucket)
    release(restored, "two")
    assert restored.unsigned([digest_of(b"evil")]) == {digest_of(b"evil")}
    assert restored.repository.load_target(evil) is None


def key_of(trust: ControllerTrust, role: str) -> CryptoSigner:
    (keyid,) = trust.repository.root().roles[role].keyids
    signer = trust.repository.signers.find(keyid)
    assert isinstance(signer, CryptoSigner)
    return signer


def forge(
    trust: ControllerTrust, path: str, keys: dict[str, CryptoSigner], own: CryptoSigner
) -> dict[str, bytes]:
    """Return a newer repository whose hashes all fit, and that lists ``path``."""
    role = roles.role_of(trust.repository.targets(), path)
    listing, snapshot, timestamp = (trust.repository.newest(name) for name in (role, "snapshot", "timestamp"))
    listing.signed.targets[path] = roles.describe_target(path, b"evil")
    files = {}
    for name, metadata, signer in (
        (role, listing, own),
        ("snapshot", snapshot, keys["snapshot"]),
        ("timestamp", timestamp, keys["timestamp"]),
    ):
        metadata.signed.version += 1
        metadata.sign(signer)
        raw = metadata.to_bytes()
        info = MetaFile(metadata.signed.version, len(raw), {"sha256": digest_of(raw)})
        if name == role:
            snapshot.signed.meta[f"{role}.json"] = info
        elif name == "snapshot":
            timestamp.signed.snapshot_meta = info
        number = "" if name == "timestamp" else f"{metadata.signed.version}."
        files[f"metadata/{number}{name}.json"] = raw
    return files


def test_a_root_that_the_older_one_did_not_sign_is_not_restored(bucket: S3Releases, tmp_path: Path) -> None:
    trust, thief = ControllerTrust(tmp_path / "trust", bucket), ControllerTrust(tmp_path / "thief")
    release(trust, "one")
    root = trust.repository.next_root()
    root.sign(key_of(thief, "root"))
    bucket.put("metadata/2.root.json", root.to_bytes())
    assert ControllerTrust(tmp_path / "trust", bucket).standing().root_version == 1


def test_a_forged_timestamp_over_what_is_published_is_not_restored(
    bucket: S3Releases, tmp_path: Path
) -> None:
    """Served from here, devices would refuse it, and everything with it."""
    trust, thief = ControllerTrust(tmp_path / "trust", bucket), ControllerTrust(tmp_path / "thief")
    release(trust, "one")
    newest = trust.newest_timestamp()
    forged = trust.repository.newest("timestamp")
    forged.signed.version = 2**40
    forged.sign(key_of(thief, "timestamp"))
    bucket.put("metadata/timestamp.json", forged.to_bytes())
    assert ControllerTrust(tmp_path / "trust", bucket).newest_timestamp() == newest


def test_a_forged_snapshot_under_a_stolen_timestamp_is_not_restored(
    bucket: S3Releases, tmp_path: Path
) -> None:
    trust, thief = ControllerTrust(tmp_path / "trust", bucket), ControllerTrust(tmp_path / "thief")
    release(trust, "one")
    newest = trust.newest_timestamp()
    snapshot, timestamp = (trust.repository.newest(role) for role in ("snapshot", "timestamp"))
    snapshot.signed.version += 1
    snapshot.sign(key_of(thief, "snapshot"))
    raw = snapshot.to_bytes()
    timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version, len(raw), {"sha256": digest_of(raw)})
    timestamp.signed.version += 1
    timestamp.sign(key_of(trust, "timestamp"))
    bucket.put(f"metadata/{snapshot.signed.version}.snapshot.json", raw)
    bucket.put("metadata/timestamp.json", timestamp.to_bytes())
    assert ControllerTrust(tmp_path / "trust", bucket).newest_timestamp() == newest


def test_the_bucket_of_another_controller_is_refused(bucket: S3Releases, tmp_path: Path) -> None:
    release(ControllerTrust(tmp_path / "trust", bucket), "one")
    with pytest.raises(SettingsError) as caught:
        ControllerTrust(tmp_path / "stranger", bucket)
    assert caught.value.code == "trust.mirror"
