"""Data sets and their three splits: train (also for calibration), validation (for every decision)
and test (read once for each released variant)."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fleet_cloud.errors import BuildError, RecipeError
from fleet_cloud.factory.recipe import Dataset
from fleet_shared.manifest import Preprocessing

Array = NDArray[Any]
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png"})


@dataclass(frozen=True)
class Split:
    """``x``: raw samples as a device's source gives them, (n, height, width, channels) or
    (n, features); ``y``: class numbers."""

    x: Array
    y: NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    digest: str
    """sha256 over all samples and labels."""


def load_splits(dataset: Dataset, seed: int) -> Splits:
    """Load the data set and split it: stratified by class, the same for the same seed."""
    if dataset.kind == "digits":
        x, y, labels, preprocessing = _load_digits()
    elif dataset.kind == "npz":
        x, y, labels, preprocessing = _load_npz(Path(dataset.path or ""))
    else:
        x, y, labels, preprocessing = _load_images(Path(dataset.path or ""), dataset.image_size)
    digest = hashlib.sha256(np.ascontiguousarray(x).tobytes() + y.tobytes()).hexdigest()
    parts = _split(y, (dataset.validation_fraction, dataset.test_fraction), seed)
    train, validation, test = (Split(x[part], y[part]) for part in parts)
    return Splits(train, validation, test, labels, preprocessing, digest)


def to_real(x: Array, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return samples as the model's real-valued input."""
    return x.astype(np.float32) * np.float32(preprocessing.scale) + np.float32(preprocessing.offset)


def write_source(split: Split, path: Path) -> None:
    """Write a split as a source for devices; raise `BuildError` (``build.output``)."""
    try:
        np.savez_compressed(path, x=split.x, y=split.y)
    except OSError as exc:
        raise BuildError(f"{path} cannot be written: {exc}", code="build.output") from exc


def _split(y: NDArray[np.int64], fractions: tuple[float, float], seed: int) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(seed)
    parts: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    for number in np.unique(y):
        members = random.permutation(np.flatnonzero(y == number))
        validation, test = (round(fraction * len(members)) for fraction in fractions)
        if len(members) < 3 or min(validation, test) < 1 or validation + test >= len(members):
            raise RecipeError(
                f"class {number} has {len(members)} samples: too few for three splits",
                hint="give more samples, or other fractions",
                code="recipe.data.small",
            )
        parts[2].append(members[:test])
        parts[1].append(members[test : test + validation])
        parts[0].append(members[test + validation :])
    train, validation_, test_ = (random.permutation(np.concatenate(part)) for part in parts)
    return train, validation_, test_


def _load_digits() -> tuple[Array, NDArray[np.int64], tuple[str, ...], Preprocessing]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = digits.images.astype(np.uint8)[..., np.newaxis]  # 8x8, values 0 to 16
    labels = tuple(str(name) for name in digits.target_names)
    return x, digits.target.astype(np.int64), labels, Preprocessing(colour="grey", scale=1 / 16)


def _load_npz(path: Path) -> tuple[Array, NDArray[np.int64], tuple[str, ...], Preprocessing]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            x, y = archive["x"], archive["y"].astype(np.int64)
            named = archive["labels"] if "labels" in archive else range(int(y.max()) + 1)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as exc:
        raise RecipeError(
            f"the data set {path} cannot be read: {exc}",
            hint="it must be an .npz with arrays x and y",
            code="recipe.data.invalid",
        ) from exc
    if x.ndim == 3:
        x = x[..., np.newaxis]
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    return x, y, tuple(str(name) for name in named), Preprocessing(scale=scale)


def _load_images(path: Path, size: int) -> tuple[Array, NDArray[np.int64], tuple[str, ...], Preprocessing]:
    samples: list[tuple[str, Array]] = []
    for name, content in _read_files(path):
        try:
            with Image.open(io.BytesIO(content)) as image:
                samples.append(
                    (Path(name).parent.name, np.asarray(image.convert("RGB").resize((size, size))))
                )
        except UnidentifiedImageError as exc:
            raise RecipeError(f"{name} in {path} is no image", code="recipe.data.invalid") from exc
    labels = tuple(sorted({label for label, _ in samples}))
    if len(labels) < 2:
        raise RecipeError(
            f"{path} has {len(labels)} classes of images",
            hint="put images into one folder for each class: CLASS/name.png",
            code="recipe.data.invalid",
        )
    numbers = {label: number for number, label in enumerate(labels)}
    y = np.array([numbers[label] for label, _ in samples], dtype=np.int64)
    return np.stack([x for _, x in samples]), y, labels, Preprocessing(colour="rgb", scale=1 / 255)


def _read_files(path: Path) -> Iterator[tuple[str, bytes]]:
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
            for member in sorted(tar.getmembers(), key=lambda member: member.name):
                reader = (
                    tar.extractfile(member) if Path(member.name).suffix.lower() in IMAGE_SUFFIXES else None
                )
                if reader is not None:
                    yield member.name, reader.read()
