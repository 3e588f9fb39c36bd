"""Samples for inference: images in folders or archives, an ``.npz``, or the frames of a camera."""

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_agent.worker.camera import read_frames
from fleet_agent.worker.pictures import fit_frame, read_picture
from fleet_shared.manifest import Preprocessing

IMAGE_SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".png"})


@dataclass(frozen=True)
class LabelledSample:
    """``array`` as decoded, before preprocessing; ``label`` by name or index, if known."""

    array: Array
    label: str | None


def read_samples(
    path: Path, labels: tuple[str, ...], preprocessing: Preprocessing, info: TensorInfo
) -> Iterator[LabelledSample]:
    """Yield the samples under ``path`` once. Raises `WorkerError` (``worker.source.*``).

    Damage has as many exceptions as there are formats inside formats (zlib, lzma, EOF, a truncated
    PNG, an image of a billion pixels): all of them are one error here.
    """
    if not path.exists():
        raise WorkerError(
            f"the source {path} does not exist",
            hint="give a folder or archive of images, or an .npz",
            code="worker.source.missing",
        )
    try:
        if path.suffix == ".npz":
            yield from _read_npz(path, labels)
        else:
            yield from _read_images(path, preprocessing, info)
    except WorkerError:
        raise
    except Exception as exc:
        reason = str(exc) or type(exc).__name__
        raise _damaged(f"the source {path} cannot be read: {reason}") from exc


def read_camera(
    source: str,
    preprocessing: Preprocessing,
    info: TensorInfo,
    read: Callable[[str], Iterator[Array]] = read_frames,
) -> Iterator[LabelledSample]:
    """Yield frames as samples without labels. Raises `WorkerError` (``worker.source.*``)."""
    for frame in read(source):
        yield LabelledSample(fit_frame(frame, preprocessing, info), None)


def _read_npz(path: Path, labels: tuple[str, ...]) -> Iterator[LabelledSample]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        samples = archive["x"]
        numbers = archive.get("y")
    if numbers is not None and len(numbers) != len(samples):
        raise _damaged(f"the source {path} has {len(samples)} samples and {len(numbers)} labels")
    for index, sample in enumerate(samples):
        yield LabelledSample(sample, None if numbers is None else _name(int(numbers[index]), labels))


def _name(number: int, labels: tuple[str, ...]) -> str:
    return labels[number] if 0 <= number < len(labels) else str(number)


def _read_images(path: Path, preprocessing: Preprocessing, info: TensorInfo) -> Iterator[LabelledSample]:
    for name, content in _read_files(path):
        try:
            array = read_picture(content, preprocessing, info, f"{name} in {path}")
        except WorkerError as exc:
            raise _damaged(exc.message) from exc
        yield LabelledSample(array, Path(name).parent.name or None)


def _read_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the image files below a folder or inside a zip or tar archive, by name."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                yield str(file.relative_to(path)), file.read_bytes()
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                    yield name, archive.read(name)
    else:
        with tarfile.open(path) as tar:
            for member in tar:
                reader = (
                    tar.extractfile(member) if Path(member.name).suffix.lower() in IMAGE_SUFFIXES else None
                )
                if reader is not None:
                    yield member.name, reader.read()


def _damaged(message: str) -> WorkerError:
    return WorkerError(
        message, hint="replace the damaged part; the source is tried again", code="worker.source.damaged"
    )
