"""The slow effects of an update: fetch the blobs, verify them, make the slot.

They run in a thread of their own, one at a time, touch nothing that runs, and are safe to run twice:
what is whole on disk is neither fetched nor written again, and a slot appears whole or not at all.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleet_agent.errors import TransferError
from fleet_agent.slots import FILES, MANIFEST_FILE, Slots, write_verified
from fleet_agent.transfer.answer import PART_BYTES
from fleet_agent.transfer.download import Counted, Downloader
from fleet_agent.transfer.part import Part
from fleet_agent.update.failures import FULL_ERRORS
from fleet_agent.update.record import Evidence
from fleet_shared.codec import SUPPORTED, Encoding, decode_blob
from fleet_shared.durable import remove, remove_folder, write_synced
from fleet_shared.manifest import BlobRef, Role, parse_manifest
from fleet_shared.messages.desired import EncodedBlob, RunEntry


@dataclass(frozen=True)
class Carried:
    """How one blob travels."""

    role: Role
    blob: BlobRef
    encoded: EncodedBlob


def plan_transfer(entry: RunEntry, blobs: dict[Role, BlobRef]) -> list[Carried]:
    """Choose for each blob that a slot needs the smallest encoding that this agent can decode."""
    return [Carried(role, blobs[role], _smallest(entry, blobs[role])) for role in FILES if role in blobs]


def _smallest(entry: RunEntry, blob: BlobRef) -> EncodedBlob:
    plain = EncodedBlob(
        blob=blob.sha256,
        encoding=Encoding.IDENTITY,
        sha256=blob.sha256,
        encoded_bytes=blob.size_bytes,
        size_bytes=blob.size_bytes,
    )
    fitting = [
        encoded
        for encoded in entry.encodings
        if encoded.encoding in SUPPORTED
        and encoded.blob == blob.sha256
        and encoded.size_bytes == blob.size_bytes
    ]
    return min([plain, *fitting], key=lambda encoded: encoded.encoded_bytes)


@dataclass
class Installer:
    """``free_bytes`` tells what is free where the state lives; ``margin_bytes`` must stay free."""

    slots: Slots
    downloads: Path
    free_bytes: Callable[[], int]
    margin_bytes: int

    def is_installed(self, entry: RunEntry, manifest: bytes) -> bool:
        """Whether the slot is there and whole: then there is nothing to fetch or to write."""
        return self.slots.is_whole(entry.manifest, parse_manifest(manifest).blobs)

    def download(self, entry: RunEntry, manifest: bytes, downloader: Downloader) -> Evidence:
        """Fetch what is missing; raise `TransferError` (``disk.full`` before the first byte)."""
        plan = plan_transfer(entry, parse_manifest(manifest).blobs)
        self.slots.clear_staging()
        self._forget_others(plan)
        self._check_room(plan)
        total = Counted()
        with _full_disk_mapped(), _settled(downloader):
            if downloader.allowance is not None:
                downloader.allowance.require(self._missing_bytes(plan))
            for carried in plan:
                _, counted = downloader.fetch(carried.encoded.sha256, carried.encoded.encoded_bytes)
                total.fetched += counted.fetched
                total.resumed += counted.resumed
                total.over_broker += counted.over_broker
        over_broker: Evidence = {"bytes_over_broker": total.over_broker} if total.over_broker else {}
        return {"bytes_fetched": total.fetched, "bytes_resumed": total.resumed, **over_broker}

    def _missing_bytes(self, plan: list[Carried]) -> int:
        """What must still come, if nothing goes wrong."""
        missing = 0
        for carried in plan:
            part = Part(self.downloads, carried.encoded.sha256, carried.encoded.encoded_bytes)
            if not part.whole.exists():
                missing += max(0, carried.encoded.encoded_bytes - part.size)
        return missing

    def verify(self, entry: RunEntry, manifest: bytes, aborted: threading.Event) -> Evidence:
        """Decode, verify and install; raise `SlotError` (``transfer.digest``), or `TransferError`
        (``transfer.aborted``) with the downloads kept for whoever comes next."""
        plan = plan_transfer(entry, parse_manifest(manifest).blobs)
        if self.is_installed(entry, manifest):
            self._forget(plan)  # what the start that installed it did not come to remove
            return {}
        try:
            with _full_disk_mapped(), self.slots.staged(entry.manifest) as staging:
                write_synced(staging / MANIFEST_FILE, manifest)
                for carried in plan:
                    parts = _read(self.downloads / carried.encoded.sha256, aborted)
                    plain = decode_blob(carried.encoded.encoding, parts, carried.blob.size_bytes)
                    heeding = _heed(plain, aborted)  # what is read at once may take long to decode
                    write_verified(staging / FILES[carried.role], heeding, carried.blob)
        finally:
            if not aborted.is_set():
                self._forget(plan)
        return {}

    def _forget(self, plan: list[Carried]) -> None:
        for carried in plan:
            Part(self.downloads, carried.encoded.sha256, carried.encoded.encoded_bytes).forget()
        with suppress(OSError):  # something of another update is in it
            remove_folder(self.downloads)

    def _forget_others(self, plan: list[Carried]) -> None:
        """Remove what an update that was given up left behind."""
        wanted = {carried.encoded.sha256 for carried in plan}
        if self.downloads.is_dir():
            for file in self.downloads.iterdir():
                if file.name.removesuffix(".part").removesuffix(".etag") not in wanted:
                    remove(file)

    def _check_room(self, plan: list[Carried]) -> None:
        present = sum(file.stat().st_size for file in self.downloads.glob("*"))
        needed = sum(carried.encoded.encoded_bytes + carried.blob.size_bytes for carried in plan)
        free = self.free_bytes()
        if needed - present + self.margin_bytes > free:
            raise _no_room(
                f"{needed - present} bytes and {self.margin_bytes} to spare are needed, {free} free"
            )


@contextmanager
def _full_disk_mapped() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in FULL_ERRORS:
            raise _no_room(str(exc)) from exc
        raise


@contextmanager
def _settled(downloader: Downloader) -> Iterator[None]:
    try:
        yield
    finally:
        if downloader.allowance is not None:
            downloader.allowance.settle()


def _no_room(why: str) -> TransferError:
    return TransferError(
        f"the disk of the device is too full: {why}",
        hint="free space on the device and push again; the running model goes on",
        code="disk.full",
    )


def _read(path: Path, aborted: threading.Event) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _heed(iter(lambda: file.read(PART_BYTES), b""), aborted)


def _heed(parts: Iterator[bytes], aborted: threading.Event) -> Iterator[bytes]:
    for part in parts:
        if aborted.is_set():
            raise TransferError("the installation was ended", code="transfer.aborted")
        yield part
