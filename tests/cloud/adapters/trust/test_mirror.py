"""The release repository in a bucket: a real S3 server."""

import shutil
from pathlib import Path

import pytest
from tuf.api.metadata import Snapshot

from fleet_cloud.adapters.storage.s3 import S3Address, S3Blobs, S3Releases
from fleet_cloud.adapters.trust.lab import LabTrust
from fleet_cloud.errors import SettingsError
from fleet_shared.envelope import manifest_target
from fleet_shared.names import Digest, digest_of
from tests.kit.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from tests.kit.release_client import ReleaseClient


@pytest.fixture
def bucket(s3: ObjectStore, tmp_path: Path) -> S3Releases:
    prefix = f"{tmp_path.name}/"
    return S3Releases(S3Blobs(S3Address(s3.bucket, prefix, s3.endpoint, "us-east-1", ACCESS_KEY, SECRET_KEY)))


@pytest.fixture
def mirrored(s3: ObjectStore, tmp_path: Path) -> Path:
    """Where the server keeps what is below the prefix."""
    return s3.folder / s3.bucket / tmp_path.name / "releases"


def release(trust: LabTrust, text: str) -> Digest:
    trust.release({digest_of(text.encode()): text.encode()})
    trust.copy_out()
    return digest_of(text.encode())


def test_a_device_can_use_the_copy(bucket: S3Releases, mirrored: Path, tmp_path: Path) -> None:
    trust = LabTrust(tmp_path / "trust", bucket)
    digest = release(trust, "one")
    device = ReleaseClient(mirrored, tmp_path / "device", trust.repository.root_json)
    assert device.fetch(manifest_target(digest)) == b"one"
    for role in ("root", "targets", "snapshot", "timestamp"):
        trust.rotate(role, [])
    assert device.fetch(manifest_target(release(trust, "two"))) == b"two"
    assert not [path for path in bucket.paths() if "keys/" in path and "assignment" not in path]


def test_the_timestamp_comes_last(bucket: S3Releases, tmp_path: Path) -> None:
    """A device at any instant of a copy finds all that the timestamp speaks for."""
    trust = LabTrust(tmp_path / "trust", bucket)
    put: list[str] = []

    class Watched(S3Releases):
        def put(self, path: str, content: bytes) -> None:
            put.append(path)
            super().put(path, content)

    trust._mirror = Watched(bucket._blobs)
    release(trust, "one")
    assert put[-1] == "metadata/timestamp.json"
    kinds = [path.split("/")[0] if path.startswith("targets") else path.split(".")[1] for path in put[:-1]]
    assert kinds.index("targets") == 0
    order = [kind for kind in kinds if kind in ("targets", Snapshot.type, "root")]
    assert order.index(Snapshot.type) > max(i for i, kind in enumerate(order) if kind == "targets")
    assert order[-1] == "root"


def test_superseded_metadata_goes_from_the_bucket_too(bucket: S3Releases, tmp_path: Path) -> None:
    trust = LabTrust(tmp_path / "trust", bucket)
    release(trust, "one")
    versions = trust.repository.files.versions()[Snapshot.type]
    trust.repository.files.file(Snapshot.type, versions[0]).unlink()
    trust.copy_out()
    assert f"metadata/{versions[0]}.snapshot.json" not in bucket.paths()


def test_an_older_copy_of_the_folder_is_brought_up_to_the_bucket(
    bucket: S3Releases, mirrored: Path, tmp_path: Path
) -> None:
    trust = LabTrust(tmp_path / "trust", bucket)
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
    restored = LabTrust(tmp_path / "trust", bucket)
    assert restored.newest_timestamp() == newest
    assert restored.standing().root_version == 2
    assert restored.unsigned([lost]) == frozenset()
    assert device.fetch(manifest_target(release(restored, "after"))) == b"after"


def test_a_bucket_that_was_tampered_with_brings_nothing(bucket: S3Releases, tmp_path: Path) -> None:
    """Whoever can write to the bucket has no key: nothing of it is believed."""
    trust = LabTrust(tmp_path / "trust", bucket)
    release(trust, "one")
    shutil.copytree(tmp_path / "trust", tmp_path / "copy")
    release(trust, "two")
    stranger = LabTrust(tmp_path / "stranger")
    for path, raw in (
        ("metadata/timestamp.json", stranger.newest_timestamp()),
        ("metadata/2.root.json", stranger.repository.root_json),
    ):
        bucket.put(path, raw)
    restored = LabTrust(tmp_path / "copy", bucket)
    assert restored.standing().root_version == 1
    assert restored.unsigned([digest_of(b"two")]) == {digest_of(b"two")}


def test_the_bucket_of_another_controller_is_refused(bucket: S3Releases, tmp_path: Path) -> None:
    release(LabTrust(tmp_path / "trust", bucket), "one")
    with pytest.raises(SettingsError) as caught:
        LabTrust(tmp_path / "stranger", bucket)
    assert caught.value.code == "trust.mirror"
