"""Installing: disk checks before the first byte, whole slots or none."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_agent.errors import AgentError, SlotError, TransferError
from fleet_agent.link.backoff import Backoff
from fleet_agent.slots import Pointers, Slots
from fleet_agent.transfer.download import Downloader
from fleet_agent.update.install import Installer, plan_transfer
from fleet_shared.codec import Encoding, encode_blob
from fleet_shared.manifest import BlobRef, Role, encode_manifest
from fleet_shared.messages.desired import EncodedBlob, RunEntry
from fleet_shared.names import AssignmentId, Digest, ModelName, digest_of
from tests.cloud.domain.test_rules import variant

MODEL, GOLDEN = b"model " * 1000, b"golden"
PACKED = encode_blob(Encoding.ZSTD, MODEL)


def manifest() -> bytes:
    import msgspec

    blobs = {
        Role.MODEL: BlobRef(sha256=digest_of(MODEL), size_bytes=len(MODEL)),
        Role.GOLDEN: BlobRef(sha256=digest_of(GOLDEN), size_bytes=len(GOLDEN)),
    }
    return encode_manifest(msgspec.structs.replace(variant("int8", 1).manifest, blobs=blobs))


def entry(encoded: bytes = PACKED) -> RunEntry:
    packed = EncodedBlob(
        blob=digest_of(MODEL), encoding=Encoding.ZSTD, sha256=digest_of(encoded),
        encoded_bytes=len(encoded), size_bytes=len(MODEL),
    )  # fmt: skip
    return RunEntry(
        model=ModelName("m"), version="1.0.0", manifest=digest_of(manifest()),
        assignment=AssignmentId("a"), encodings=(packed,),
    )  # fmt: skip


def installer(folder: Path, free: Callable[[], int] = lambda: 10**9) -> Installer:
    return Installer(Slots(folder / "slots", folder / "slots.json"), folder / "downloads", free, 1000)


def put(folder: Path, *blobs: bytes) -> None:
    (folder / "downloads").mkdir(exist_ok=True)
    for blob in blobs:
        (folder / "downloads" / digest_of(blob)).write_bytes(blob)


def no_downloader(folder: Path) -> Downloader:
    def never(_sha256: Digest) -> str:
        raise AssertionError("nothing may be fetched")

    backoff = Backoff(0, 0, lambda: 0.0)
    return Downloader(folder / "downloads", never, lambda _count: None, threading.Event(), backoff)


def test_the_smallest_encoding_that_is_understood_is_carried() -> None:
    from fleet_shared.manifest import parse_manifest

    plan = plan_transfer(entry(), parse_manifest(manifest()).blobs)
    assert [carried.encoded.encoding for carried in plan] == [Encoding.ZSTD, Encoding.IDENTITY]


def test_a_full_disk_is_seen_before_the_first_byte(tmp_path: Path) -> None:
    one = installer(tmp_path, free=lambda: 2000)
    with pytest.raises(TransferError) as caught:
        one.download(entry(), manifest(), no_downloader(tmp_path))
    assert caught.value.code == "disk.full"
    assert caught.value.hint


def test_what_is_there_already_is_not_fetched_and_what_belongs_to_nobody_goes(tmp_path: Path) -> None:
    put(tmp_path, PACKED, GOLDEN, b"left over")
    evidence = installer(tmp_path).download(entry(), manifest(), no_downloader(tmp_path))
    assert evidence == {"bytes_fetched": 0, "bytes_resumed": len(PACKED) + len(GOLDEN)}
    assert len(list((tmp_path / "downloads").iterdir())) == 2


def test_a_verified_slot_holds_the_plain_files(tmp_path: Path) -> None:
    put(tmp_path, PACKED, GOLDEN)
    one = installer(tmp_path)
    one.verify(entry(), manifest(), threading.Event())
    slot = one.slots.path(digest_of(manifest()))
    assert (slot / "model.tflite").read_bytes() == MODEL
    assert (slot / "golden.npz").read_bytes() == GOLDEN
    assert not (tmp_path / "downloads").exists()


def test_a_damaged_encoding_leaves_no_slot(tmp_path: Path) -> None:
    other = encode_blob(Encoding.ZSTD, MODEL[:-1] + b"?")
    put(tmp_path, other, GOLDEN)
    one = installer(tmp_path)
    with pytest.raises(SlotError) as caught:
        one.verify(entry(other), manifest(), threading.Event())
    assert caught.value.code == "transfer.digest"
    assert list((tmp_path / "slots").iterdir()) == []


def test_damaged_pointers_are_an_error_and_missing_ones_are_none(tmp_path: Path) -> None:
    slots = installer(tmp_path).slots
    assert slots.load_pointers() == Pointers()
    (tmp_path / "slots.json").write_bytes(b"")
    with pytest.raises(AgentError) as caught:
        slots.load_pointers()
    assert caught.value.code == "slot.pointers"
    assert slots.set_aside().exists()
    assert slots.load_pointers() == Pointers()
