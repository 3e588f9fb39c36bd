"""An installed variant as the worker reads it: verified once more, and then used from memory.

The name of a slot is the digest of its manifest, which holds those of its files. So what a worker runs is
what was released and verified, also when somebody swapped a file since.
"""

from dataclasses import dataclass
from pathlib import Path

from fleet_agent.errors import WorkerError
from fleet_agent.worker.sealed import SWAPPED, SealedFile, read_verified
from fleet_shared.errors import MessageError
from fleet_shared.manifest import BlobRef, Manifest, Role, parse_manifest
from fleet_shared.names import Digest, digest_of


@dataclass(frozen=True)
class Slot:
    """``labels`` are in the order of the output's classes; empty when the variant has none. ``golden``: the
    content of the file of golden vectors."""

    manifest: Manifest
    labels: tuple[str, ...]
    golden: bytes
    model: SealedFile

    @property
    def model_file(self) -> Path:
        return self.model.path


def load_slot(folder: Path, manifest: Digest) -> Slot:
    """Read the slot of this manifest; raise `WorkerError` (``worker.slot``) when a file is missing, damaged
    or another than was verified."""
    try:
        raw = (folder / "manifest.json").read_bytes()
        if digest_of(raw) != manifest:
            raise WorkerError(
                f"slot {folder} is not of the manifest {manifest[:12]}",
                hint=SWAPPED,
                code="worker.slot",
            )
        parsed = parse_manifest(raw)
        labels = _read(folder / "labels.txt", parsed.blobs.get(Role.LABELS)).decode().splitlines()
        return Slot(
            manifest=parsed,
            labels=tuple(labels),
            golden=_read(folder / "golden.npz", parsed.blobs.get(Role.GOLDEN)),
            model=SealedFile(folder / "model.tflite", parsed.blobs[Role.MODEL]),
        )
    except (OSError, UnicodeDecodeError, MessageError, KeyError) as exc:
        raise WorkerError(f"slot {folder} cannot be read: {exc}", code="worker.slot") from exc


def _read(file: Path, blob: BlobRef | None) -> bytes:
    return b"" if blob is None else b"".join(read_verified(file, blob))
