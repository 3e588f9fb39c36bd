"""One contract for both stores: a folder and a real S3 server."""

import urllib.request
from pathlib import Path

import pytest

from fleet_cloud.adapters.storage.filesystem import FilesystemBlobs
from fleet_cloud.adapters.storage.s3 import S3Address, S3Blobs
from fleet_cloud.errors import Invalid, NotFound, SettingsError, Unavailable
from fleet_cloud.services.ports import BlobStore
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
