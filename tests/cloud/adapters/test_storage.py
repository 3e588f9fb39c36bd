"""One contract for both stores: a folder and a real S3 server."""

import errno
import os
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet_cloud.adapters.storage.bucket import S3Address
from fleet_cloud.adapters.storage.filesystem import FilesystemBlobs
from fleet_cloud.adapters.storage.s3 import S3Blobs
from fleet_cloud.errors import Invalid, NotFound, SettingsError, Unavailable
from fleet_cloud.services.ports import BlobStore
from fleet_shared.errors import InvalidName
from fleet_shared.names import Digest, digest_of
from tests.kit.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from tests.kit.ports import free_port

BODY = bytes(range(256)) * 5000
SHA = digest_of(BODY)


def address(store: ObjectStore, *, bucket: str = "models", secret: str = SECRET_KEY) -> S3Address:
    return S3Address(bucket, "p/", store.endpoint, "us-east-1", ACCESS_KEY, secret)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return FilesystemBlobs(tmp_path / "blobs")
    return S3Blobs(address(request.getfixturevalue("s3")))


def test_a_blob_comes_back_whole_and_in_parts(store: BlobStore) -> None:
    for _ in range(2):
        assert store.put(SHA, iter([BODY[:1000], BODY[1000:]])).size_bytes == len(BODY)
    info = store.info(SHA)
    assert info is not None
    assert info.size_bytes == len(BODY)
    assert b"".join(store.read(SHA)) == BODY
    assert b"".join(store.read(SHA, 1000, 2000)) == BODY[1000:2000]
    assert b"".join(store.read(SHA, len(BODY) - 5)) == BODY[-5:]


def test_other_bytes_than_announced_are_never_visible(store: BlobStore) -> None:
    wrong = digest_of(b"announced")
    with pytest.raises(Invalid) as caught:
        store.put(wrong, iter([b"sent"]))
    assert caught.value.code == "blob.digest"
    assert store.info(wrong) is None


def test_a_blob_that_is_not_there(store: BlobStore) -> None:
    missing = Digest("0" * 64)
    assert store.info(missing) is None
    with pytest.raises(NotFound) as caught:
        b"".join(store.read(missing))
    assert caught.value.code == "blob.unknown"


def test_a_presigned_address_serves_the_blob(s3: ObjectStore) -> None:
    store = S3Blobs(address(s3))
    store.put(SHA, iter([BODY]))
    url = store.presigned_url(SHA, 60)
    assert url is not None
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == BODY


def test_s3_troubles_are_named(s3: ObjectStore) -> None:
    with pytest.raises(SettingsError) as caught:
        S3Blobs(address(s3, bucket="nowhere")).check()
    assert caught.value.code == "storage.bucket.missing"
    with pytest.raises(SettingsError) as caught:
        S3Blobs(address(s3, secret="x" * 40)).check()
    assert caught.value.code == "storage.denied"
    away = ObjectStore(f"http://127.0.0.1:{free_port()}", "models", s3.folder)
    with pytest.raises(Unavailable) as gone:
        S3Blobs(address(away)).check()
    assert gone.value.code == "storage.unreachable"


def test_an_empty_blob_and_empty_parts(store: BlobStore) -> None:
    empty = digest_of(b"")
    store.put(empty, iter([]))
    assert b"".join(store.read(empty)) == b""
    assert b"".join(store.read(empty, 0, 0)) == b""
    store.put(SHA, iter([BODY]))
    assert b"".join(store.read(SHA, 5, 5)) == b""
    assert b"".join(store.read(SHA, len(BODY))) == b""
    with pytest.raises(NotFound):
        b"".join(store.read(Digest("0" * 64), 0, 0))


@pytest.mark.parametrize("name", ["/etc/hostname", "../../etc/hostname", "a\0b", "", "A" * 64])
def test_what_is_no_digest_reaches_no_file(store: BlobStore, name: str) -> None:
    for call in (store.info, lambda n: b"".join(store.read(n)), lambda n: store.put(n, iter([b""]))):
        with pytest.raises(InvalidName):
            call(Digest(name))
    with pytest.raises(InvalidName):
        b"".join(store.read(Digest(name), 0, 10))


def test_files_of_killed_writers_are_removed_after_a_day(tmp_path: Path) -> None:
    FilesystemBlobs(tmp_path).put(SHA, iter([BODY]))
    folder = tmp_path / SHA[:2] / SHA[2:4]
    old, young = folder / f".{SHA}.old.tmp", folder / f".{SHA}.young.tmp"
    for file in (old, young):
        file.write_bytes(b"half")
    yesterday = time.time() - 25 * 3600
    for file in (old, folder / SHA):
        os.utime(file, (yesterday, yesterday))
    store = FilesystemBlobs(tmp_path)
    assert not old.exists()
    assert young.exists()
    assert b"".join(store.read(SHA)) == BODY


def test_a_blob_folder_that_is_a_file(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path / "blobs")
    (tmp_path / "blobs" / SHA[:2]).write_text("in the way")
    for call in (store.info, lambda n: b"".join(store.read(n)), lambda n: store.put(n, iter([BODY]))):
        with pytest.raises(Unavailable) as caught:
            call(SHA)
        assert caught.value.code == "storage.unreachable"


def test_devices_get_an_address_that_they_can_reach(s3: ObjectStore) -> None:
    store = S3Blobs(replace(address(s3), advertise="https://models.example:9443"))
    store.put(SHA, iter([BODY]))
    url = store.presigned_url(SHA, 60)
    assert url is not None
    assert url.startswith(f"https://models.example:9443/models/p/{SHA[:2]}/{SHA}?")


class FullDisk(tempfile.SpooledTemporaryFile[bytes]):
    def write(self, *_parts: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_spool_disk_is_named(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", FullDisk)
    with pytest.raises(Unavailable) as caught:
        S3Blobs(address(s3)).put(SHA, iter([BODY]))
    assert caught.value.code == "storage.spool"


def test_s3_settings_that_are_wrong_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    nowhere = f"http://127.0.0.1:{free_port()}"
    for given, code in (
        (S3Address("b", "", nowhere, "us-east-1", None, None), "storage.denied"),
        (S3Address("b", "", nowhere, "us-east-1", "key", None), "storage.denied"),
        (S3Address("b", "", "h:9000", "us-east-1", "key", "hush"), "storage.address"),
        (S3Address("no such/bucket", "", nowhere, "us-east-1", "key", "hush"), "storage.address"),
    ):
        with pytest.raises(SettingsError) as caught:
            S3Blobs(given).check()
        assert caught.value.code == code
        assert caught.value.hint
        assert "hush" not in caught.value.message
