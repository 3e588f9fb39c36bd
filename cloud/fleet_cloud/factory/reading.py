"""Read a data set as it lies on disk: digits, images, arrays. Nothing is split here."""

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.recipe import Dataset
from fleet_shared.manifest import Preprocessing

Array = NDArray[Any]
SplitName = Literal["train", "validation", "test"]

IMAGE_SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".png"})
SPLIT_NAMES: Final[tuple[SplitName, ...]] = ("train", "validation", "test")


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
    return _read_npz(path) if dataset.kind == "npz" else _read_images(path, dataset.image_size)


def _read_digits() -> Samples:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = digits.images.astype(np.uint8)[..., np.newaxis]  # 8x8, values 0 to 16
    labels = tuple(str(name) for name in digits.target_names)
    return Samples(x, digits.target.astype(np.int64), labels, Preprocessing(colour="grey", scale=1 / 16))


def _read_npz(path: Path) -> Samples:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zlib.error, zipfile.BadZipFile) as exc:
        raise _invalid(f"{path} cannot be read: {exc}", _NPZ_HINT) from exc
    if "x" in arrays:
        given, parts = None, [(arrays["x"], arrays.get("y"))]
    else:
        named = [(arrays.get(f"x_{name}"), arrays.get(f"y_{name}")) for name in SPLIT_NAMES]
        given = np.repeat(np.arange(len(named)), [0 if x is None else len(x) for x, _ in named])
        parts = [(x, y) for x, y in named if x is not None]
    if not parts or any(y is None or y.shape != (len(x),) for x, y in parts):
        raise _invalid(f"{path} has arrays {sorted(arrays)}", _NPZ_HINT)
    x = np.concatenate([x for x, _ in parts])
    y = np.concatenate([y for _, y in parts if y is not None])
    if (
        y.dtype.kind not in "iu"
        or x.dtype.kind not in "iuf"
        or x.ndim not in (2, 3, 4)
        or not len(y)
        or y.min() < 0
    ):
        raise _invalid(f"{path}: x is {x.dtype} {x.shape}, y is {y.dtype} {y.shape}", _NPZ_HINT)
    classes = int(y.max()) + 1
    labels = tuple(str(name) for name in arrays.get("labels", range(classes)))
    if len(labels) < classes:
        raise _invalid(f"{path} has {len(labels)} labels for {classes} classes", "one label for each class")
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    x = x[..., np.newaxis] if x.ndim == 3 else x
    return Samples(x, y.astype(np.int64), labels, Preprocessing(scale=scale), given)


_NPZ_HINT: Final = (
    "an .npz has x (samples first) and y (class numbers from 0, one a sample), "
    "or x_train, y_train, x_validation, y_validation, x_test, y_test"
)


def _read_images(path: Path, size: int) -> Samples:
    images = sorted(
        ((PurePosixPath(name), _read_image(content, name, path, size)) for name, content in read_files(path)),
        key=lambda pair: pair[0],
    )
    names = [name for name, _ in images]
    labels = tuple(sorted({name.parent.name for name in names}))
    if len(labels) < 2:
        raise _invalid(
            f"{path} has {len(labels)} classes of images",
            "put images into one folder for each class: CLASS/name.png, or train/CLASS/name.png",
        )
    numbers = {label: number for number, label in enumerate(labels)}
    y = np.array([numbers[name.parent.name] for name in names], dtype=np.int64)
    preprocessing = Preprocessing(colour="rgb", scale=1 / 255)
    x = np.stack([array for _, array in images])
    return Samples(x, y, labels, preprocessing, _find_splits(path, names))


def _read_image(content: bytes, name: str, path: Path, size: int) -> Array:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB").resize((size, size)))
    except (OSError, SyntaxError, Image.DecompressionBombError) as exc:  # SyntaxError: damaged PNG
        raise _invalid(f"{name} in {path} is no image that can be read", "remove or replace it") from exc


def _find_splits(path: Path, names: Sequence[PurePosixPath]) -> NDArray[np.int64] | None:
    """Return the split of each image by the folder above its class; none when no folder says so."""
    above = [set(name.parts[:-2]) & set(SPLIT_NAMES) for name in names]
    if not any(above):
        return None
    for name, found in zip(names, above, strict=True):
        if len(found) != 1:
            raise _invalid(
                f"{name} in {path} lies in {len(found)} of the folders train, validation and test",
                "once there is one of these folders, every image belongs into one of them",
            )
    return np.array([SPLIT_NAMES.index(next(iter(found))) for found in above], dtype=np.int64)


def read_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the image files below a folder or in a zip or tar archive; raise
    `RecipeError` (``recipe.data.invalid``) when it cannot be read."""
    try:
        yield from _walk(path)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as exc:
        raise _invalid(f"{path} cannot be read: {exc}", "a folder, a .zip or a .tar of images") from exc


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


def _invalid(message: str, hint: str) -> RecipeError:
    return RecipeError(message, hint=hint, code="recipe.data.invalid")
