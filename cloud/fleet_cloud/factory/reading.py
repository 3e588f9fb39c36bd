"""Read a data set as it lies on disk: digits, images, arrays. Nothing is split here."""

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleet_cloud.errors import Invalid, RecipeError
from fleet_cloud.factory.arrays import read_arrays
from fleet_cloud.factory.labelled import CODE, check_labels, find_labels, find_parts, invalid
from fleet_cloud.factory.recipe import Dataset
from fleet_shared.manifest import Fit, ImageRules, Preprocessing, Resize
from fleet_shared.pixels import fit_image

Array = NDArray[Any]
SplitName = Literal["train", "validation", "test"]

IMAGE_SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".png"})
SPLIT_NAMES: Final[tuple[SplitName, ...]] = ("train", "validation", "test")
_DAMAGE: Final = (
    OSError,
    EOFError,
    RuntimeError,  # an encrypted archive, an unknown compression
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
)


@dataclass(frozen=True)
class Samples:
    """``x``: raw, as a device's source gives them; ``y``: class numbers; ``given``: which split a
    sample belongs to, in the order of `SPLIT_NAMES`, for data sets that say so themselves."""

    x: Array
    y: NDArray[np.int64]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    given: NDArray[np.int64] | None = None


def read_samples(dataset: Dataset) -> Samples:
    """Return all samples; raise `RecipeError` (``recipe.data.invalid``) naming what is wrong."""
    if dataset.kind == "digits":
        return _read_digits()
    path = Path(dataset.path or "")
    return _read_npz(path) if dataset.kind == "npz" else _read_images(path, dataset)


def _read_digits() -> Samples:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = digits.images.astype(np.uint8)[..., np.newaxis]  # 8x8, values 0 to 16
    labels = tuple(str(name) for name in digits.target_names)
    return Samples(x, digits.target.astype(np.int64), labels, Preprocessing(colour="grey", scale=1 / 16))


def _read_npz(path: Path) -> Samples:
    try:
        arrays = read_arrays(path, CODE)
        parts = find_parts(arrays, SPLIT_NAMES, path)
        labels = find_labels(arrays.get("labels"), parts, path)
    except RecipeError:
        raise
    except Invalid as exc:
        raise invalid(exc.message, exc.hint) from exc
    given = None
    if parts[0].name:
        numbers = [SPLIT_NAMES.index(cast("SplitName", part.name)) for part in parts]
        given = np.repeat(numbers, [len(part.y) for part in parts])
    x = np.concatenate([part.x for part in parts])
    y = np.concatenate([part.y.astype(np.int64) for part in parts])
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    x = x[..., np.newaxis] if x.ndim == 3 else x
    return Samples(x, y, labels, Preprocessing(scale=scale), given)


def _read_images(path: Path, dataset: Dataset) -> Samples:
    preprocessing = plan_preprocessing(dataset)
    shape = (1, dataset.image_size, dataset.image_size, 3)
    images = sorted(
        (
            (PurePosixPath(name), _read_image(content, f"{name} in {path}", preprocessing, shape))
            for name, content in read_files(path)
        ),
        key=lambda pair: pair[0],
    )
    names = [name for name, _ in images]
    labels = _find_classes(path, names)
    numbers = {label: number for number, label in enumerate(labels)}
    y = np.array([numbers[name.parent.name] for name in names], dtype=np.int64)
    x = np.stack([array for _, array in images])
    return Samples(x, y, labels, preprocessing, _find_splits(path, names))


def _find_classes(path: Path, names: Sequence[PurePosixPath]) -> tuple[str, ...]:
    """Return the names of the folders that hold images; each name means one folder, or one in each
    of the folders of splits."""
    folders: dict[str, PurePosixPath] = {}
    for name in names:
        label = name.parent.name
        folder = PurePosixPath(*(part for part in name.parent.parts if part not in SPLIT_NAMES))
        if folders.setdefault(label, folder) != folder:
            raise invalid(
                f"class {label!r} in {path} has two folders: {folders[label]} and {folder}",
                "one folder for each class; rename one, or move their images together",
            )
    labels = tuple(sorted(folders))
    if len(labels) < 2:
        raise invalid(
            f"{path} has {len(labels)} classes of images",
            "put images into one folder for each class: CLASS/name.png, or train/CLASS/name.png",
        )
    check_labels(labels, path)
    return labels


def plan_preprocessing(dataset: Dataset) -> Preprocessing:
    """Return what the recipe asks for; nothing is said where it is the default."""
    rules = ImageRules(resize=Resize(dataset.resize), fit=Fit(dataset.fit), pad=dataset.pad)
    return Preprocessing(colour="rgb", scale=1 / 255, image=msgspec.UNSET if rules == ImageRules() else rules)


def _read_image(content: bytes, name: str, preprocessing: Preprocessing, shape: tuple[int, ...]) -> Array:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return fit_image(image, preprocessing, shape)
    except (OSError, SyntaxError, Image.DecompressionBombError) as exc:  # SyntaxError: damaged PNG
        raise invalid(f"{name} is no image that can be read", "remove or replace it") from exc


def _find_splits(path: Path, names: Sequence[PurePosixPath]) -> NDArray[np.int64] | None:
    """Return the split of each image by the folder above its class; none when no folder says so."""
    above = [set(name.parts[:-2]) & set(SPLIT_NAMES) for name in names]
    if not any(above):
        return None
    for name, found in zip(names, above, strict=True):
        if len(found) != 1:
            raise invalid(
                f"{name} in {path} lies in {len(found)} of the folders train, validation and test",
                "once there is one of these folders, every image belongs into one of them",
            )
    return np.array([SPLIT_NAMES.index(next(iter(found))) for found in above], dtype=np.int64)


def read_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the image files below a folder or in a zip or tar archive; raise
    `RecipeError` (``recipe.data.invalid``) when it cannot be read."""
    try:
        yield from _walk(path)
    except _DAMAGE as exc:
        # Its text may be an essay on each format that was tried.
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else "it is damaged, or no archive"
        raise invalid(f"{path} cannot be read: {why}", "a folder, a .zip or a .tar of images") from exc


def _walk(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                yield file.relative_to(path).as_posix(), file.read_bytes()
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
                    yield name, archive.read(name)
    else:
        with tarfile.open(path) as tar:
            # In the order of the archive: seeking back would decompress it again for each member.
            for member in tar:
                if member.isfile() and PurePosixPath(member.name).suffix.lower() in IMAGE_SUFFIXES:
                    reader = tar.extractfile(member)
                    if reader is not None:
                        yield member.name, reader.read()
