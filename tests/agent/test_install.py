"""Installing: disk checks before the first byte, whole slots or none."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_agent.bootstrap import DeviceJobs
from fleet_agent.errors import AgentError, SlotError, TransferError
from fleet_agent.leftovers import remove_leftovers
from fleet_agent.link.backoff import Backoff
from fleet_agent.paths import StatePaths
from fleet_agent.slots import Pointers, Slots
from fleet_agent.supervisor import Message
from fleet_agent.transfer.download import Downloader
from fleet_agent.transfer.questions import Questions
from fleet_agent.transfer.response import Response, Wanted
from fleet_agent.transfer.urls import BlobUrls
from fleet_agent.update.install import Installer, _heed, plan_transfer
from fleet_agent.update.record import UpdateRecord
from fleet_shared.codec import Encoding, encode_blob
from fleet_shared.manifest import BlobRef, Manifest, Role, encode_manifest
from fleet_shared.messages.desired import EncodedBlob, Policy, RunEntry
from fleet_shared.messages.reported import Order, Running
from fleet_shared.messages.update import UpdateState
from fleet_shared.names import AssignmentId, ModelName, VariantName, digest_of
from tests.kit.device_edges import CONTRACT, FakeClock

MODEL, GOLDEN = b"model " * 1000, b"golden"
PACKED = encode_blob(Encoding.ZSTD, MODEL)


def manifest() -> bytes:
    blobs = {
        Role.MODEL: BlobRef(sha256=digest_of(MODEL), size_bytes=len(MODEL)),
        Role.GOLDEN: BlobRef(sha256=digest_of(GOLDEN), size_bytes=len(GOLDEN)),
    }
    return encode_manifest(
        Manifest(
            model=ModelName("m"), version="1.0.0", variant=VariantName("int8"), contract=CONTRACT, blobs=blobs
        )
    )  # fmt: skip


def entry(encoded: bytes = PACKED, encoding: Encoding = Encoding.ZSTD) -> RunEntry:
    packed = EncodedBlob(
        blob=digest_of(MODEL), encoding=encoding, sha256=digest_of(encoded),
        encoded_bytes=len(encoded), size_bytes=len(MODEL),
    )  # fmt: skip
    return RunEntry(
        model=ModelName("m"), version="1.0.0", manifest=digest_of(manifest()),
        assignment=AssignmentId("a"), encodings=(packed,),
    )  # fmt: skip


def record() -> UpdateRecord:
    target = Running(
        model=ModelName("m"), version="1.0.0", variant=VariantName("int8"), manifest=entry().manifest,
        assignment=AssignmentId("a"),
    )  # fmt: skip
    return UpdateRecord(
        entry=entry(), manifest=manifest(), target=target, policy=Policy(), accepted=Order(),
        state=UpdateState.DOWNLOADING, boot_id="b", started_ms=0, saved_ms=0, deadline_ms=1,
    )  # fmt: skip


def installer(folder: Path, free: Callable[[], int] = lambda: 10**9) -> Installer:
    return Installer(Slots(folder / "slots", folder / "slots.json"), folder / "downloads", free, 1000)


def put(folder: Path, *blobs: bytes) -> None:
    (folder / "downloads").mkdir(exist_ok=True)
    for blob in blobs:
        (folder / "downloads" / digest_of(blob)).write_bytes(blob)


def no_downloader(folder: Path) -> Downloader:
    def never(_wanted: Wanted, _aborted: threading.Event) -> Response:
        raise AssertionError("nothing may be fetched")

    backoff = Backoff(0, 0, lambda: 0.0)
    return Downloader(folder / "downloads", never, lambda _count: None, threading.Event(), backoff)


def test_the_smallest_encoding_that_is_understood_is_carried() -> None:
    from fleet_shared.manifest import parse_manifest

    plan = plan_transfer(entry(), parse_manifest(manifest()).blobs)
    assert [carried.encoded.encoding for carried in plan] == [Encoding.ZSTD, Encoding.IDENTITY]


def test_a_model_that_came_as_a_codebook_is_the_same(tmp_path: Path) -> None:
    packed = encode_blob(Encoding.CODEBOOK, MODEL)
    put(tmp_path, packed, GOLDEN)
    one = installer(tmp_path)
    one.verify(entry(packed, Encoding.CODEBOOK), manifest(), threading.Event())
    assert (one.slots.path(digest_of(manifest())) / "model.tflite").read_bytes() == MODEL


def test_decoding_ends_when_the_update_was_given_up(tmp_path: Path) -> None:
    """What was read at once may take long to decode."""
    aborted = threading.Event()
    decoded = _heed(iter([b"one", b"two"]), aborted)
    assert next(decoded) == b"one"
    aborted.set()
    with pytest.raises(TransferError) as caught:
        next(decoded)
    assert caught.value.code == "transfer.aborted"


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


def test_an_installation_that_is_given_up_takes_no_download_with_it(tmp_path: Path) -> None:
    put(tmp_path, PACKED, GOLDEN, b"of the next update")
    one = installer(tmp_path)
    aborted = threading.Event()
    aborted.set()
    with pytest.raises(TransferError) as caught:
        one.verify(entry(), manifest(), aborted)
    assert caught.value.code == "transfer.aborted"
    assert len(list((tmp_path / "downloads").iterdir())) == 3
    assert list((tmp_path / "slots").iterdir()) == []


def test_an_installation_removes_its_own_downloads_only(tmp_path: Path) -> None:
    put(tmp_path, PACKED, GOLDEN, b"of the next update")
    installer(tmp_path).verify(entry(), manifest(), threading.Event())
    assert [file.read_bytes() for file in (tmp_path / "downloads").iterdir()] == [b"of the next update"]


def test_what_a_killed_installation_left_does_not_count_as_needed(tmp_path: Path) -> None:
    put(tmp_path, PACKED, GOLDEN)
    left = tmp_path / "slots" / ".staging-old"
    left.mkdir(parents=True)
    (left / "model.tflite").write_bytes(bytes(5000))

    def free() -> int:
        return 10_000 - sum(file.stat().st_size for file in (tmp_path / "slots").rglob("*") if file.is_file())

    installer(tmp_path, free).download(entry(), manifest(), no_downloader(tmp_path))
    assert not left.exists()


def test_what_is_installed_and_whole_is_neither_fetched_nor_written_again(tmp_path: Path) -> None:
    put(tmp_path, PACKED, GOLDEN)
    one = installer(tmp_path)
    one.verify(entry(), manifest(), threading.Event())
    slot = one.slots.path(digest_of(manifest()))
    before = slot.stat().st_ino, (slot / "model.tflite").stat().st_ino
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    jobs = DeviceJobs(
        one, inbox, BlobUrls("http://nowhere", Questions(send=inbox.put)), tmp_path / "spent", FakeClock()
    )
    assert jobs.download(record(), threading.Event()) == {"bytes_fetched": 0, "bytes_resumed": 0}
    assert jobs.verify(record(), threading.Event()) == {}
    assert inbox.empty(), "the network was asked"
    assert (slot.stat().st_ino, (slot / "model.tflite").stat().st_ino) == before


@pytest.mark.parametrize("name", ["model.tflite", "golden.npz", "manifest.json"])
def test_a_slot_with_a_damaged_file_is_not_whole(tmp_path: Path, name: str) -> None:
    put(tmp_path, PACKED, GOLDEN)
    one = installer(tmp_path)
    one.verify(entry(), manifest(), threading.Event())
    assert one.is_installed(entry(), manifest())
    file = one.slots.path(digest_of(manifest())) / name
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not one.is_installed(entry(), manifest())
    file.unlink()
    assert not one.is_installed(entry(), manifest())


def test_temporary_files_of_killed_writers_are_removed_at_the_start(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path)
    for folder in (paths.root, paths.identity, paths.trust, paths.downloads):
        folder.mkdir(exist_ok=True)
        (folder / ".update.json.x1y2.tmp").write_bytes(b"half")
        (folder / "kept.json").write_bytes(b"whole")
    remove_leftovers(paths)
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {"kept.json"}
