"""Installed models: one folder each, named by its manifest's digest; pointers in one file.

A slot is made beside its place, synced and renamed: it is whole or not there. What a damaged one must
hold follows from its name, so it is repaired file by file, and is never gone for an instant. The
pointers file says which slot is active and which was before; replacing it is the switch.
"""

import errno
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from fleet_agent.errors import SlotError
from fleet_shared.durable import (
    make_folder,
    remove_tree,
    rename,
    sync_folder,
    write_durably,
    write_synced,
)
from fleet_shared.errors import CodecError, MessageError
from fleet_shared.manifest import BlobRef, Role, parse_manifest
from fleet_shared.messages.reported import Running
from fleet_shared.names import Digest

FILES: Final = MappingProxyType(
    {Role.MODEL: "model.tflite", Role.GOLDEN: "golden.npz", Role.LABELS: "labels.txt"}
)
MANIFEST_FILE: Final = "manifest.json"
_STAGING: Final = ".staging"
_DAMAGED: Final = ".damaged"
_READ_BYTES: Final = 256 * 1024
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.EUCLEAN, errno.EBADMSG})
"""What the disk says when a file, or a part of it, is there no more."""


class Pointers(msgspec.Struct, frozen=True, kw_only=True):
    schema: int = 1
    active: Running | None = None
    previous: Running | None = None

    def without(self, manifest: Digest) -> "Pointers":
        """Return what is left once a model is gone: the one before takes its place."""
        named = (self.active, self.previous)
        left = [running for running in named if running is not None and running.manifest != manifest]
        active, previous = [*left, None, None][:2]
        return Pointers(active=active, previous=previous)


class Slots:
    def __init__(self, folder: Path, pointers: Path) -> None:
        self._folder, self._file = folder, pointers
        with suppress(OSError):  # a read-only disk holds what it holds; whoever writes says so
            make_folder(folder, parents=True)

    def path(self, manifest: Digest) -> Path:
        return self._folder / manifest

    def holds(self, manifest: Digest) -> bool:
        return self.path(manifest).is_dir()

    def is_whole(self, manifest: Digest, blobs: Mapping[Role, BlobRef]) -> bool:
        """Read the slot through: whether every file is what the manifest promises. Slow."""
        try:
            return self._keeps(manifest, blobs)
        except OSError:
            return False

    def is_intact(self, manifest: Digest) -> bool:
        """As `is_whole`, by the manifest that lies in the slot itself: its digest is the slot's name. Slow.
        Raises `OSError` where it cannot be judged (no descriptor left, no permission): that says nothing
        against the model."""
        try:
            raw = (self.path(manifest) / MANIFEST_FILE).read_bytes()
            return hashlib.sha256(raw).hexdigest() == manifest and self._keeps(
                manifest, parse_manifest(raw).blobs
            )
        except MessageError:
            return False
        except OSError as exc:
            if exc.errno in _GONE:
                return False
            raise

    def _keeps(self, manifest: Digest, blobs: Mapping[Role, BlobRef]) -> bool:
        promised = {FILES[role]: blob.sha256 for role, blob in blobs.items() if role in FILES}
        slot = self.path(manifest)
        return all(
            _digest_file(slot / name) == sha256
            for name, sha256 in (promised | {MANIFEST_FILE: manifest}).items()
        )

    def set_slot_aside(self, manifest: Digest) -> Path | None:
        """Move a damaged slot out of the way, for a human to look at; the newest one is kept. None
        where there is no such slot."""
        slot, aside = self.path(manifest), self._folder / f"{manifest}{_DAMAGED}"
        if not slot.exists():
            return None
        for older in self._folder.glob(f"*{_DAMAGED}"):
            remove_tree(older)
        rename(slot, aside)
        sync_folder(self._folder)
        return aside

    def remove(self, manifest: Digest) -> None:
        remove_tree(self.path(manifest))

    @property
    def has_pointers(self) -> bool:
        return self._file.exists()

    def load_pointers(self) -> Pointers:
        """Return the pointers; raise `SlotError` (``slot.pointers``) when the file is damaged."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Pointers)
        except FileNotFoundError:
            return Pointers()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise SlotError(f"{self._file} does not parse: {exc}", code="slot.pointers") from exc

    def set_aside(self) -> Path:
        aside = self._file.with_suffix(".damaged")
        rename(self._file, aside)
        sync_folder(self._file.parent)
        return aside

    def save_pointers(self, pointers: Pointers) -> None:
        """The switch. It is on disk when this returns."""
        write_durably(self._file, msgspec.json.encode(pointers))

    @contextmanager
    def staged(self, manifest: Digest) -> Iterator[Path]:
        """Yield an empty folder that becomes the slot at the end of the block, or repairs the one
        that is there; an exception removes it. One block at a time."""
        self.clear_staging()
        staging, slot = self._folder / f"{_STAGING}-{manifest}", self.path(manifest)
        make_folder(staging)
        try:
            yield staging
            if slot.is_dir():
                _repair(slot, staging)
            else:
                sync_folder(staging)
                rename(staging, slot)
                sync_folder(self._folder)
        finally:
            remove_tree(staging)

    def clear_staging(self) -> None:
        """Remove what a killed agent left half made."""
        for path in self._folder.glob(f"{_STAGING}-*"):
            remove_tree(path)

    def prune(self, keep: Iterable[Digest], spare_bytes: int = 0) -> None:
        """Remove what is neither in ``keep`` nor, newest first, within ``spare_bytes``: a model that
        comes back then needs no download. A damaged one that was set aside counts among them, and
        goes before the others."""
        kept = set(keep)
        spare = sorted(
            (path for path in self._folder.iterdir() if path.name not in kept),
            key=lambda path: (_DAMAGED in path.name or _STAGING in path.name, -path.stat().st_mtime),
        )
        for path in spare:
            spare_bytes -= max(1, _size_bytes(path))
            if spare_bytes < 0 or path.name.startswith(_STAGING):
                remove_tree(path)


def _size_bytes(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def _repair(slot: Path, staging: Path) -> None:
    """Put each file of ``staging`` in its place; a reader sees the old one or the new one."""
    for file in staging.iterdir():
        rename(file, slot / file.name)
    sync_folder(slot)


def _digest_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def write_verified(path: Path, parts: Iterable[bytes], blob: BlobRef) -> None:
    """Write ``parts`` to the new file ``path`` and sync them; raise `SlotError` (``transfer.digest``) when
    they are not the promised bytes."""
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for part in parts:
            digest.update(part)
            yield part
        if digest.hexdigest() != blob.sha256:
            raise CodecError("other bytes than the manifest promises")

    try:
        write_synced(path, hashed())
    except CodecError as exc:
        raise SlotError(
            f"blob {blob.sha256[:12]} decodes to other bytes than were released: {exc}",
            hint="the blob store is damaged; the running model was not touched",
            code="transfer.digest",
        ) from exc
