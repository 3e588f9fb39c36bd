"""Samples that come with somebody else's model: raw inputs as an ``.npz`` has them, or images."""

import io
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleet_cloud.errors import Invalid, RecipeError
from fleet_cloud.factory.arrays import check_finite, read_arrays
from fleet_cloud.factory.evaluation.judging import Questions
from fleet_cloud.factory.golden import get_item_shape
from fleet_cloud.factory.images import read_files
from fleet_cloud.factory.inspect import CHANNELS_FIRST, FileFacts, is_channels_first
from fleet_shared.manifest import Preprocessing
from fleet_shared.pixels import DAMAGE, fit_image, to_real

Array = NDArray[Any]
CODE: Final = "model.samples"
GIVEN: Final = "given at the import"
_Y_HINT: Final = (
    "y has class numbers from 0, one a sample, or values to fit: floats, whole ones only without several "
    "labels; without y accuracy stays unknown"
)


def count_classes(outputs: int) -> int:
    """Return how many classes so many outputs tell apart: a single one is the probability of the second of
    two."""
    return max(2, outputs)


def load_samples(path: Path, shape: tuple[int, ...], preprocessing: Preprocessing) -> Array:
    """Return raw samples, samples first. ``shape``: of the model's input. Raises `Invalid`
    (``model.samples``) for those that do not fit it."""
    if path.suffix == ".npz":
        return _take_x(read_arrays(path, CODE), get_item_shape(shape), path)
    return _load_images(path, shape, preprocessing)


def load_questions(
    path: Path | None, facts: FileFacts, preprocessing: Preprocessing, labels: tuple[str, ...] = ()
) -> Questions | None:
    """Return the samples of an ``.npz`` that says with ``y`` what they are; none where nobody says. Raises
    `Invalid` (``model.samples``). Floats are values to fit, but whole numbers where there are several
    ``labels``."""
    if path is None or path.suffix != ".npz":
        return None
    arrays = read_arrays(path, CODE)
    if (y := arrays.get("y")) is None:
        return None
    takes, gives = ([tuple(one.shape) for one in side] for side in (facts.inputs, facts.outputs))
    single = len(takes) == len(gives) == 1 and takes[0][:1] in {(1,), (-1,)}
    if not single or min(gives[0][1:], default=0) < 1:
        raise _refuse(
            f"y in {path} cannot be compared with what a model of inputs {takes} and outputs {gives} gives",
            "leave it out; accuracy is measured of one input and one output, with a batch of one",
        )
    x = _take_x(arrays, takes[0][1:], path)
    if y.shape[:1] != x.shape[:1]:
        raise _refuse(f"{path} has {len(x)} samples, and y has shape {y.shape}", _Y_HINT)
    values = y.dtype.kind == "f" and not (len(labels) > 1 and _are_classes(y))
    y = _take_values(y, prod(gives[0][1:]), path) if values else _take_classes(y, prod(gives[0][1:]), path)
    return Questions(
        real=to_real(x, preprocessing), y=y, split=GIVEN, labels=labels,
        task="regression" if values else "classification",
    )  # fmt: skip


def _are_classes(y: Array) -> bool:
    """Tell whether floats are class numbers: whole ones, one a sample."""
    return y.size == len(y) and bool(np.isfinite(y).all() and np.all(y == np.floor(y)))


def _take_classes(y: Array, outputs: int, path: Path) -> Array:
    """A model of one output tells two classes apart."""
    classes = count_classes(outputs)
    if y.dtype.kind in "biuf" and y.size == len(y):
        y = y.reshape(len(y)).astype(np.int64)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise _refuse(f"y in {path} is {y.dtype} {y.shape}", _Y_HINT)
    for found in (int(y.min()), int(y.max())):
        if not 0 <= found < classes:
            raise _refuse(f"y in {path} has the class {found}, and the model tells {classes} apart", _Y_HINT)
    return y.astype(np.int64)


def _take_values(y: Array, outputs: int, path: Path) -> Array:
    check_finite(y, "y", path, CODE)
    flat = y.reshape(len(y), -1)
    if flat.shape[1] != outputs:
        raise _refuse(
            f"y in {path} has {flat.shape[1]} values a sample, and the model gives {outputs}", _Y_HINT
        )
    return flat.astype(np.float32)


def _take_x(arrays: dict[str, Array], item: tuple[int, ...], path: Path) -> Array:
    x = arrays.get("x")
    if x is None:
        raise _refuse(f"{path} has no array 'x'", "x: raw samples first")
    if x.dtype.kind not in "iufb" or not x.ndim or x.shape[1:] != item:
        raise _refuse(
            f"x in {path} is {x.dtype} {x.shape}, and the model takes numbers of shape {item}",
            CHANNELS_FIRST
            if is_channels_first(item, x.shape[1:])
            else f"x has samples first: (n, {', '.join(map(str, item))})",
        )
    if not len(x):
        raise _refuse(f"x in {path} is empty", "give at least one sample")
    check_finite(x, "x", path, CODE)
    return x


def _load_images(path: Path, shape: tuple[int, ...], preprocessing: Preprocessing) -> Array:
    if len(shape) != 4:
        raise _refuse(f"the model's input {list(shape)} is no image", "give an .npz")
    images = []
    for name, content in _read_image_files(path):
        try:
            with Image.open(io.BytesIO(content)) as image:
                images.append(fit_image(image, preprocessing, shape))
        except DAMAGE as exc:
            raise _refuse(f"{name} in {path} is no image that can be read", "remove it") from exc
    if not images:
        raise _refuse(f"{path} has no images", "png, jpg or bmp")
    return np.stack(images)


def _read_image_files(path: Path) -> list[tuple[str, bytes]]:
    try:
        return sorted(read_files(path))
    except RecipeError as exc:
        raise _refuse(exc.message, exc.hint) from exc


def _refuse(message: str, hint: str) -> Invalid:
    return Invalid(message, hint=hint, code=CODE)
