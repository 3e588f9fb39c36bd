"""Encodings: small models at once, large ones later, in bounded memory."""

import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from fleet_cloud.adapters.db.engine import open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.adapters.storage.filesystem import FilesystemBlobs
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.bootstrap.system import SystemClock
from fleet_cloud.errors import Unavailable
from fleet_cloud.services import packing as packing_module
from fleet_cloud.services.drafts import VariantDraft, VersionDraft
from fleet_cloud.services.models import Registry
from fleet_cloud.services.packing import PACKED_AT_ONCE_BYTES, Packing
from fleet_shared.codec import Encoding, decode_blob, encode_blob, encode_parts
from fleet_shared.errors import CodecError
from fleet_shared.manifest import BlobRef, Role
from fleet_shared.messages.desired import EncodedBlob
from fleet_shared.names import Digest, digest_of
from tests.cloud.domain.test_rules import variant
from tests.kit.databases import sqlite_in
from tests.kit.people import ADMIN
from tests.kit.weights import clustered

LARGE = b"fleet " * (PACKED_AT_ONCE_BYTES // 6 + 10)


class Counted(FilesystemBlobs):
    """Counts how often each blob is read from its beginning to its end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reads: list[Digest] = []

    def read(self, sha256: Digest, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        self.reads.append(sha256)
        return super().read(sha256, start, end)


class Place:
    def __init__(self, folder: Path) -> None:
        self.engine = open_engine(sqlite_in(folder))
        self.uow, self.store = DatabaseUnitOfWork(self.engine), Counted(folder / "blobs")
        self.trust = ControllerTrust(folder / "trust")
        self.packing = Packing(self.uow, self.store)
        self.registry = Registry(self.uow, self.trust, self.store, SystemClock(), self.packing)

    def register(self, content: bytes, model: str = "m") -> Digest:
        contract = variant("int8", 1).manifest.contract
        blobs = {Role.MODEL: self.put(content), Role.GOLDEN: self.put(b"golden")}
        draft = VersionDraft(variants=(VariantDraft(name="int8", contract=contract, blobs=blobs),))
        self.registry.register(model, draft, ADMIN)
        return blobs[Role.MODEL].sha256

    def put(self, content: bytes) -> BlobRef:
        sha256 = digest_of(content)
        self.store.put(sha256, iter([content]))
        return BlobRef(sha256=sha256, size_bytes=len(content))

    def encodings(self, blob: Digest) -> list[EncodedBlob]:
        with self.uow.begin() as transaction:
            return list(transaction.models.encodings(blob))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.engine.dispose()


def test_a_small_model_is_packed_once_at_registration(place: Place) -> None:
    content = b"small " * 1000
    blob = place.register(content)
    (encoding,) = place.encodings(blob)
    packed = b"".join(place.store.read(encoding.sha256))
    assert b"".join(decode_blob(Encoding.ZSTD, [packed], len(content))) == content
    place.store.reads.clear()
    place.register(content)
    place.register(content, "other")
    assert place.store.reads == [], "what is known or packed already is not packed again"
    assert place.packing.pack_next() is False


def test_weights_of_few_values_are_kept_as_a_codebook_beside_zstd(place: Place) -> None:
    content = clustered(8_000, 1)
    blob = place.register(content)
    kept = {one.encoding: one for one in place.encodings(blob)}
    assert set(kept) == {Encoding.ZSTD, Encoding.CODEBOOK}
    assert kept[Encoding.CODEBOOK].encoded_bytes < 0.95 * kept[Encoding.ZSTD].encoded_bytes
    packed = b"".join(place.store.read(kept[Encoding.CODEBOOK].sha256))
    assert b"".join(decode_blob(Encoding.CODEBOOK, [packed], len(content))) == content


def test_a_larger_one_gets_its_codebook_later(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing_module, "CODED_AT_ONCE_BYTES", 1000)
    blob = place.register(clustered(8_000, 1))
    assert [one.encoding for one in place.encodings(blob)] == [Encoding.ZSTD]
    assert place.packing.pack_next() is True
    assert len(place.encodings(blob)) == 2
    assert place.packing.pack_next() is False


def test_a_large_model_is_packed_after_its_registration(place: Place) -> None:
    blob = place.register(LARGE)
    assert place.encodings(blob) == []
    assert blob not in place.store.reads, "no request waits for it"
    assert place.packing.pack_next() is True
    (encoding,) = place.encodings(blob)
    assert encoding.encoded_bytes < len(LARGE) // 10
    packed = b"".join(place.store.read(encoding.sha256))
    assert b"".join(decode_blob(Encoding.ZSTD, [packed], len(LARGE))) == LARGE
    assert place.packing.pack_next() is True, "and as a codebook, which is no shorter"
    assert place.packing.pack_next() is False
    assert place.encodings(blob) == [encoding]


def test_what_is_not_worth_packing_is_tried_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing_module, "PACKED_AT_ONCE_BYTES", 1000)
    noise = b"".join(digest_of(str(number).encode())[:64].encode() for number in range(100))
    blob = place.register(bytes.fromhex(noise.decode()))
    assert place.packing.pack_next() is True
    assert place.packing.pack_next() is False
    assert place.encodings(blob) == []


def test_packing_can_be_stopped(place: Place) -> None:
    blob = place.register(LARGE)
    place.packing.stop()
    assert place.packing.pack_next() is False
    assert place.encodings(blob) == []


def test_the_same_bytes_give_the_same_encoding_however_they_are_cut() -> None:
    content = b"".join(f"line {number * 7919 % 1013}\n".encode() for number in range(50_000))
    whole = encode_blob(Encoding.ZSTD, content)
    for size in (999, 131_072, 131_073):
        parts = (content[at : at + size] for at in range(0, len(content), size))
        assert b"".join(encode_parts(Encoding.ZSTD, parts, len(content))) == whole


def test_packing_holds_a_part_of_the_model_only() -> None:
    part, count = b"fleet " * 40_000, 100
    tracemalloc.start()
    for _ in encode_parts(Encoding.ZSTD, (bytes(part) for _ in range(count)), len(part) * count):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(part) * 10


def test_a_registration_holds_no_transaction_while_it_is_released(place: Place) -> None:
    """Another registration in the middle of a release gets its turn, and the first a free number."""
    original = place.trust.release
    done = threading.Event()

    class Slow:
        key_epoch = 1

        def release(self, manifests: dict[Digest, bytes]) -> None:
            if not done.is_set():
                done.set()
                place.register(b"in between")
            original(manifests)

    registry = Registry(place.uow, Slow(), place.store, SystemClock(), place.packing)  # type: ignore[arg-type]
    contract = variant("int8", 1).manifest.contract
    blobs = {Role.MODEL: place.put(b"first"), Role.GOLDEN: place.put(b"golden")}
    draft = VersionDraft(variants=(VariantDraft(name="int8", contract=contract, blobs=blobs),))
    assert str(registry.register("m", draft, ADMIN).version.version) == "1.1.0"


def test_a_blob_that_cannot_be_stored_does_not_keep_the_others_waiting(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.register(LARGE)

    def full(*_: object) -> None:
        raise Unavailable("the disk is full", code="storage.unreachable")

    monkeypatch.setattr(place.store, "put", full)
    assert place.packing.pack_next() is True
    assert place.packing.pack_next() is True, "as a codebook"
    assert place.packing.pack_next() is False, "it is not packed again and again"


@pytest.mark.parametrize("fault", ["refused", "other bytes"])
def test_a_codebook_that_devices_could_not_decode_is_not_offered(
    place: Place, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Whatever is wrong with the coder shows here, and not on the devices of a rollout."""

    def decode(encoding: Encoding, parts: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
        if fault == "refused":
            raise CodecError("more work than a device shall do")
        yield bytes(size_bytes)

    monkeypatch.setattr(packing_module, "decode_blob", decode)
    blob = place.register(clustered(4000, 3))
    assert [one.encoding for one in place.encodings(blob)] == [Encoding.ZSTD]
