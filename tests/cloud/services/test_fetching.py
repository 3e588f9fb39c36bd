"""What a device hears when it asks at the broker: parts as they are, and whether to ask again."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from fleet_cloud.adapters.storage.bucket import S3Address
from fleet_cloud.adapters.storage.filesystem import FilesystemBlobs
from fleet_cloud.adapters.storage.releases import ReleaseFolder
from fleet_cloud.adapters.storage.s3 import S3Blobs
from fleet_cloud.bootstrap.system import SystemClock
from fleet_cloud.domain.rollout import Assignment, AssignmentState
from fleet_cloud.errors import CloudError, Conflict, Forbidden, NotFound, Unavailable
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.fetching import Fetching
from fleet_cloud.services.parts import BLOCK_BYTES, BLOCKS_KEPT, BlobParts
from fleet_cloud.services.ports import BlobInfo, BlobStore
from fleet_cloud.services.signing import UrlSigner
from fleet_shared.limits import BLOB_URL_LIFE_S, PART_BYTES
from fleet_shared.manifest import Role
from fleet_shared.messages.fetch import Fetch, Part
from fleet_shared.names import AssignmentId, DeviceId, Digest, digest_of
from tests.kit.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from tests.kit.parts import PI, Parts
from tests.kit.people import ADMIN

FETCH = Fetch(request="r", assignment=AssignmentId("a"), sha256=Digest("0" * 64))
CONTENT = bytes(range(256)) * 10


class Database:
    """Knows no assignment and no device, or fails."""

    def __init__(self, failure: CloudError | None) -> None:
        self.failure = failure

    def begin(self) -> AbstractContextManager[Any]:
        return self.read()

    @contextmanager
    def read(self) -> Iterator[Any]:
        if self.failure is not None:
            raise self.failure
        nothing = SimpleNamespace(get=lambda _name: None)
        yield SimpleNamespace(assignments=nothing, devices=nothing)


@pytest.mark.parametrize(
    ("failure", "code", "retry"),
    [
        (Unavailable("away", code="database.unreachable"), "database.unreachable", True),
        (Conflict("twice", code="database.conflict"), "database.conflict", False),
        (None, "fetch.forbidden", False),
    ],
)
@pytest.mark.parametrize("part", [None, Part(offset=0, length=10)])
def test_what_will_pass_is_asked_for_again(
    tmp_path: Path, failure: CloudError | None, code: str, retry: bool, part: Part | None
) -> None:
    store, database = FilesystemBlobs(tmp_path), Database(failure)
    blobs = Blobs(store, database, UrlSigner(b"k" * 32, SystemClock(), database), 1)
    fetching = Fetching(database, blobs, BlobParts(store), ReleaseFolder(tmp_path), lambda *_: "")
    reply = fetching.answer(DeviceId("d"), Fetch(request="r", assignment=AssignmentId("a"), part=part))
    assert reply.chunk.failure is not None
    assert (reply.chunk.failure.code, reply.chunk.retry, reply.content) == (code, retry, None)


# -- over a real database


@dataclass
class Bench:
    parts: Parts
    assignment: Assignment
    blob: Digest

    def ask(self, device: DeviceId = PI, **asked: Any) -> str | bytes:
        """Return the content or the URL, or the code of the failure."""
        fetch = Fetch(**{"request": "r", "assignment": self.assignment.id, "sha256": self.blob, **asked})
        reply = self.parts.fetching.answer(device, fetch)
        failure = reply.chunk.failure
        if failure is not None:
            assert failure.hint
            return failure.code
        return reply.chunk.url or reply.content or b""

    def put(self, assignment: Assignment) -> None:
        with self.parts.uow.begin() as transaction:
            transaction.assignments.put(assignment)

    def revoke(self) -> None:
        with self.parts.uow.begin() as transaction:
            transaction.devices.put(replace(self.parts.device(), revoked_ms=1))


@pytest.fixture
def bench(parts: Parts) -> Bench:
    parts.add_device()
    version = parts.registry.register("m", parts.draft(CONTENT), ADMIN).version
    return Bench(parts, parts.push(), version.variants[0].manifest.blobs[Role.MODEL].sha256)


def test_a_device_gets_parts_of_the_blobs_of_its_own_assignment(bench: Bench) -> None:
    assert bench.ask(part=Part(offset=0, length=100)) == CONTENT[:100]
    assert bench.ask(part=Part(offset=2500, length=100)) == CONTENT[2500:]
    reply = bench.parts.fetching.answer(
        PI,
        Fetch(request="r", assignment=bench.assignment.id, sha256=bench.blob, part=Part(offset=7, length=9)),
    )
    assert (reply.chunk.request, reply.chunk.offset, reply.chunk.total_bytes) == ("r", 7, len(CONTENT))
    assert bench.ask(part=Part(offset=2**62, length=9)) == b""


@pytest.mark.parametrize("part", [None, Part(offset=0, length=100)])
def test_rights_are_the_same_for_addresses_and_parts(bench: Bench, part: Part | None) -> None:
    foreign = bench.parts.put(b"foreign").sha256
    assert bench.ask(part=part) != "fetch.forbidden"
    assert bench.ask(DeviceId("pi-2"), part=part) == "fetch.forbidden"
    assert bench.ask(assignment=AssignmentId("other"), part=part) == "fetch.forbidden"
    assert bench.ask(sha256=foreign, part=part) == "fetch.forbidden"
    assert bench.ask(sha256=Digest("../../keys"), part=part) == "fetch.forbidden"
    bench.put(replace(bench.assignment, state=AssignmentState.FAILED))
    assert bench.ask(part=part) == "fetch.forbidden"
    bench.put(replace(bench.assignment, state=AssignmentState.SUCCEEDED))
    assert bench.ask(part=part) != "fetch.forbidden", "what its disk lost is fetched again"


def test_a_revoked_device_gets_nothing(bench: Bench) -> None:
    bench.revoke()
    assert bench.ask() == "device.revoked"
    assert bench.ask(part=Part(offset=0, length=9)) == "device.revoked"
    assert bench.ask(file="metadata/timestamp.json") == "device.revoked"
    assert bench.ask(csr_pem="csr") == "device.revoked"


def test_the_address_that_a_revoked_device_has_dies_with_its_right(bench: Bench) -> None:
    query = dict(parse_qsl(urlsplit(str(bench.ask())).query))

    def check() -> None:
        bench.parts.blobs.signer.check(bench.blob, query["device"], int(query["expires"]), query["signature"])

    check()
    bench.revoke()
    with pytest.raises(Forbidden) as caught:
        check()
    assert caught.value.code == "device.revoked"


def test_an_address_dies_with_its_time(bench: Bench) -> None:
    query = dict(parse_qsl(urlsplit(str(bench.ask())).query))
    bench.parts.clock.at_ms += 1000 * (BLOB_URL_LIFE_S + 1)
    with pytest.raises(Forbidden) as caught:
        bench.parts.blobs.signer.check(bench.blob, query["device"], int(query["expires"]), query["signature"])
    assert caught.value.code == "blob.url.expired"


def test_a_certificate_is_asked_for_by_its_csr(bench: Bench) -> None:
    assert bench.ask(csr_pem="csr") == b"certificate of pi-1 for csr"


def test_release_files_come_in_parts(bench: Bench, tmp_path: Path) -> None:
    whole = (tmp_path / "trust" / "metadata" / "1.root.json").read_bytes()
    assert bench.ask(file="metadata/1.root.json") == whole
    assert bench.ask(file="metadata/1.root.json", part=Part(offset=5, length=20)) == whole[5:25]
    assert bench.ask(file="metadata/1.root.json", part=Part(offset=2**62, length=20)) == b""


@pytest.mark.parametrize(
    "path",
    ["metadata/9.root.json", "keys/assignment.json", "metadata", "metadata/", "../metadata/1.root.json",
     "metadata/../keys/assignment", "/etc/passwd", "metadata/1.root.json/x", "metadata/%2e%2e/keys",
     "targets/keys", "metadata/.hidden", "", "metadata/1.root.json\n"],
)  # fmt: skip
def test_nothing_else_of_the_folder_is_given_out(bench: Bench, path: str) -> None:
    assert bench.ask(file=path) == "release.unknown"


# -- blocks


@dataclass
class Watched:
    """A store that counts what is read of it."""

    store: BlobStore
    reads: list[tuple[int, int | None]] = field(default_factory=list)

    def put(self, sha256: Digest, parts: Iterator[bytes]) -> BlobInfo:
        return self.store.put(sha256, parts)

    def info(self, sha256: Digest) -> BlobInfo | None:
        return self.store.info(sha256)

    def read(self, sha256: Digest, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        self.reads.append((start, end))
        return self.store.read(sha256, start, end)

    def presigned_url(self, sha256: Digest, life_s: int) -> str | None:
        return self.store.presigned_url(sha256, life_s)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Watched:
    if request.param == "folder":
        return Watched(FilesystemBlobs(tmp_path / "blobs"))
    s3: ObjectStore = request.getfixturevalue("s3")
    return Watched(S3Blobs(S3Address("models", "p/", s3.endpoint, "us-east-1", ACCESS_KEY, SECRET_KEY)))


def test_whatever_is_asked_for_the_bytes_are_those_of_the_blob(store: Watched) -> None:
    content = bytes(i * i % 251 for i in range(2 * BLOCK_BYTES + 1000))
    sha256 = store.put(digest_of(content), iter([content])).sha256
    parts = BlobParts(store)
    lengths = (1, 1000, PART_BYTES)
    for offset in (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES - 5, len(content) - 3, len(content)):
        for length in lengths:
            expected = content[offset : offset + length]
            assert parts.read(sha256, offset, length) == (expected, len(content)), (offset, length)
    assert len(store.reads) == 3, "each block once"
    assert parts.read(sha256, 2**62, 10) == (b"", len(content))
    with pytest.raises(NotFound):
        parts.read(Digest("0" * 64), 0, 10)
    empty = store.put(digest_of(b""), iter([])).sha256
    assert parts.read(empty, 0, 10) == (b"", 0)


def test_only_so_many_blocks_are_kept(tmp_path: Path) -> None:
    store = Watched(FilesystemBlobs(tmp_path / "blobs"))
    parts = BlobParts(store)
    blobs = [store.put(digest_of(b"%d" % n), iter([b"%d" % n])).sha256 for n in range(BLOCKS_KEPT + 1)]
    for sha256 in blobs:
        parts.read(sha256, 0, 10)
    assert len(parts._blocks) == BLOCKS_KEPT
    store.reads.clear()
    parts.read(blobs[-1], 0, 10)
    assert store.reads == []
    parts.read(blobs[0], 0, 10)
    assert store.reads == [(0, 1)], "the oldest went"
