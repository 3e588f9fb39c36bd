"""An installed variant as the worker reads it."""

from dataclasses import dataclass
from pathlib import Path

from fleet_agent.errors import WorkerError
from fleet_shared.errors import MessageError
from fleet_shared.manifest import Manifest, parse_manifest


@dataclass(frozen=True)
class Slot:
    """``labels`` are in the order of the output's classes; empty when the variant has none."""

    folder: Path
    manifest: Manifest
    labels: tuple[str, ...]

    @property
    def model_file(self) -> Path:
        return self.folder / "model.tflite"

    @property
    def golden_file(self) -> Path:
        return self.folder / "golden.npz"


def load_slot(folder: Path) -> Slot:
    """Read a slot; raise `WorkerError` (``worker.slot``) when a file is missing or damaged."""
    try:
        manifest = parse_manifest((folder / "manifest.json").read_bytes())
        labels_file = folder / "labels.txt"
        labels = tuple(labels_file.read_text().splitlines()) if labels_file.exists() else ()
    except (OSError, UnicodeDecodeError, MessageError) as exc:
        raise WorkerError(f"slot {folder} cannot be read: {exc}", code="worker.slot") from exc
    return Slot(folder, manifest, labels)
