"""Installed models: one folder each, named by its manifest's digest; pointers in one file.

A slot is made beside its place, synced and renamed: it is whole or not there. The pointers file
says which slot is active and which was before; replacing it is the switch.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from fleet_agent.errors import SlotError
from fleet_shared.durable import sync_folder, write_durably
from fleet_shared.errors import CodecError
from fleet_shared.manifest import BlobRef, Role
from fleet_shared.messages.reported import Running
from fleet_shared.names import Digest

FILES: Final = MappingProxyType(
    {Role.MODEL: "model.tflite", Role.GOLDEN: "golden.npz", Role.LABELS: "labels.txt"}
)
_STAGING: Final = ".staging"


class Pointers(msgspec.Struct, frozen=True, kw_only=True):
    schema: int = 1
    active: Running | None = None
    previous: Running | None = None


class Slots:
    def __init__(self, folder: Path, pointers: Path) -> None:
        self._folder, self._file = folder, pointers
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, manifest: Digest) -> Path:
        return self._folder / manifest

    def holds(self, manifest: Digest) -> bool:
        return self.path(manifest).is_dir()

    def load_pointers(self) -> Pointers:
        """Return the pointers; raise `SlotError` (``slot.pointers``) when the file is damaged."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Pointers)
        except FileNotFoundError:
            return Pointers()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise SlotError(f"{self._file} does not parse: {exc}", code="slot.pointers") from exc

    def set_pointers_aside(self) -> Path:
        aside = self._file.with_suffix(".damaged")
        self._file.replace(aside)
        return aside

    def save_pointers(self, pointers: Pointers) -> None:
        """The switch. It is on disk when this returns."""
        write_durably(self._file, msgspec.json.encode(pointers))

    @contextmanager
    def staged(self, manifest: Digest) -> Iterator[Path]:
        """Yield an empty folder that becomes the slot at the end of the block, and is removed by
        an exception."""
        staging = self._folder / f"{_STAGING}-{manifest}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            yield staging
            sync_folder(staging)
            shutil.rmtree(self.path(manifest), ignore_errors=True)
            staging.replace(self.path(manifest))
            sync_folder(self._folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def prune(self, keep: Iterable[Digest]) -> None:
        """Remove every slot but those in ``keep``."""
        kept = set(keep)
        for path in self._folder.iterdir():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


def write_verified(path: Path, parts: Iterable[bytes], blob: BlobRef) -> None:
    """Write ``parts`` durably to ``path``; raise `SlotError` (``transfer.digest``) when they are not
    the promised bytes, with nothing written."""
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for part in parts:
            digest.update(part)
            yield part
        if digest.hexdigest() != blob.sha256:
            raise CodecError("other bytes than the manifest promises")

    try:
        write_durably(path, hashed())
    except CodecError as exc:
        raise SlotError(
            f"blob {blob.sha256[:12]} decodes to other bytes than were released: {exc}",
            hint="the blob store is damaged; the running model was not touched",
            code="transfer.digest",
        ) from exc
