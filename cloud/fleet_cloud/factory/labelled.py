"""A data set of arrays: which arrays make one, and one message for each thing that can be wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.arrays import check_finite
from fleet_cloud.factory.recipe.dataset import Dataset

Array = NDArray[Any]
CODE: Final = "recipe.data.invalid"
ARRAYS_HINT: Final = (
    "an .npz has x (samples first) and y (class numbers from 0, one a sample), "
    "or x_train, y_train, x_validation, y_validation, x_test, y_test"
)
NDIMS: Final = (2, 3, 4)
"""Samples first, then features, a grey image, or an image with channels."""
_TASK_HINT: Final = (
    "y has class numbers from 0, one a sample; with task: regression values, one or several a sample"
)


@dataclass(frozen=True)
class Part:
    """``name``: the split's, or empty for the whole set; ``y``: none where nobody says what samples are."""

    name: str
    x: Array
    y: Array | None

    @property
    def x_name(self) -> str:
        return f"x_{self.name}" if self.name else "x"

    @property
    def y_name(self) -> str:
        return f"y_{self.name}" if self.name else "y"


def find_parts(arrays: Mapping[str, Array], names: Sequence[str], path: Path, dataset: Dataset) -> list[Part]:
    """Return the whole set as one part, or the named splits that are there, checked; target values get two
    dimensions."""
    wanted = [""] if "x" in arrays else [name for name in names if {f"x_{name}", f"y_{name}"} & set(arrays)]
    if not wanted:
        raise invalid(f"{path} has no array 'x' among {sorted(arrays)}", ARRAYS_HINT)
    parts = [_find_part(arrays, name, path, labelled=dataset.labels == "given") for name in wanted]
    for number, part in enumerate(parts):
        _check_samples(part, path)
        if part.y is not None and dataset.task == "classification":
            _check_numbers(part, part.y, path)
        elif part.y is not None:
            parts[number] = replace(part, y=_check_values(part, part.y, path))
        if (part.x.shape[1:], part.x.dtype) != (parts[0].x.shape[1:], parts[0].x.dtype):
            raise invalid(
                f"{path}: {part.x_name} has samples of {part.x.dtype} {part.x.shape[1:]}, "
                f"{parts[0].x_name} of {parts[0].x.dtype} {parts[0].x.shape[1:]}",
                "all splits have samples of one shape and type",
            )
    return parts


def _find_part(arrays: Mapping[str, Array], name: str, path: Path, labelled: bool) -> Part:
    x, y = (arrays.get(f"{letter}_{name}" if name else letter) for letter in "xy")
    missing = "x" if x is None else "y" if y is None and labelled else None
    if missing is not None or x is None:
        raise invalid(f"{path} lacks {missing}{f'_{name}' if name else ''}", ARRAYS_HINT)
    return Part(name, np.asarray(x), np.asarray(y) if labelled else None)


def find_labels(given: Array | None, parts: Sequence[Part], path: Path) -> tuple[str, ...]:
    """Return the labels, numbers if none are given; refuse class numbers that no data set has."""
    each = [part.y for part in parts if part.y is not None]
    count, largest = sum(len(y) for y in each), max(int(y.max()) for y in each)
    if largest >= count:
        raise invalid(
            f"{path}: y has the class {largest}, with {count} samples in all",
            "class numbers count from 0 without holes",
        )
    classes = largest + 1
    if classes < 2:
        raise invalid(f"{path} has one class only: y is 0 everywhere", "there is nothing to tell apart")
    if given is None:
        return tuple(str(number) for number in range(classes))
    if given.ndim != 1:
        raise invalid(f"{path}: labels has shape {given.shape}, expected one dimension", "one label a class")
    labels = tuple(_text(label) for label in given.tolist())
    if len(labels) < classes:
        raise invalid(f"{path} has {len(labels)} labels for {classes} classes", "one label for each class")
    check_labels(labels, path)
    return labels


def check_labels(labels: Sequence[str], path: Path) -> None:
    """Refuse labels that a device could not tell apart or write on one line."""
    for label, count in Counter(labels).items():
        if count > 1:
            raise invalid(f"{path} has the label {label!r} {count} times", "give each class its own label")
        if not label.strip() or not label.isprintable():
            raise invalid(
                f"{path} has the label {label!r}",
                "labels are words without line breaks or control characters",
            )


def invalid(message: str, hint: str) -> RecipeError:
    return RecipeError(message, hint=hint, code="recipe.data.invalid")


def _check_samples(part: Part, path: Path) -> None:
    x = part.x
    if x.dtype.kind not in "iuf":
        raise invalid(f"{path}: {part.x_name} is {x.dtype}, expected numbers", ARRAYS_HINT)
    if x.ndim not in NDIMS:
        raise invalid(
            f"{path}: {part.x_name} has {x.ndim} dimensions {x.shape}, expected 2 to 4",
            "samples first, then features, or height, width and channels",
        )
    if 0 in x.shape:
        raise invalid(f"{path}: {part.x_name} is empty {x.shape}", "leave out a split without samples")
    check_finite(x, part.x_name, path, CODE)


def _check_numbers(part: Part, y: Array, path: Path) -> None:
    if y.ndim != 1:
        raise invalid(f"{path}: {part.y_name} has shape {y.shape}, expected one dimension", ARRAYS_HINT)
    if y.dtype.kind not in "iu":
        raise invalid(f"{path}: {part.y_name} is {y.dtype}, expected whole numbers", _TASK_HINT)
    _check_count(part, y, path)
    if y.min() < 0:
        raise invalid(f"{path}: the smallest {part.y_name} is {int(y.min())}", "class numbers count from 0")


def _check_values(part: Part, y: Array, path: Path) -> Array:
    """Return target values as (n, outputs), float32."""
    if y.ndim not in {1, 2} or 0 in y.shape[1:]:
        raise invalid(f"{path}: {part.y_name} has shape {y.shape}, expected (n,) or (n, outputs)", _TASK_HINT)
    if y.dtype.kind not in "iuf":
        raise invalid(f"{path}: {part.y_name} is {y.dtype}, expected numbers", _TASK_HINT)
    _check_count(part, y, path)
    check_finite(y, part.y_name, path, CODE)
    return y.reshape(len(y), -1).astype(np.float32)


def _check_count(part: Part, y: Array, path: Path) -> None:
    if len(y) != len(part.x):
        raise invalid(
            f"{path}: {part.x_name} has {len(part.x)} samples, {part.y_name} has {len(y)}",
            "one class number, or one row of values, for each sample",
        )


def _text(label: object) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
