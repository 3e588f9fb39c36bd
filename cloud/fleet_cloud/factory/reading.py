"""Read a data set as it lies on disk: digits, images, arrays, tables. Nothing is split here."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid, RecipeError
from fleet_cloud.factory.arrays import read_arrays
from fleet_cloud.factory.images import read_images
from fleet_cloud.factory.labelled import CODE, Part, find_labels, find_parts, invalid
from fleet_cloud.factory.recipe.dataset import Dataset
from fleet_cloud.factory.samples import SPLIT_NAMES, Samples, SplitName
from fleet_cloud.factory.tables import read_table
from fleet_shared.manifest import ImageRules, Preprocessing, find_wrong_preprocessing

Array = NDArray[Any]


def read_samples(dataset: Dataset) -> Samples:
    """Return all samples; raise `RecipeError` (``recipe.data.invalid``) naming what is wrong."""
    path = Path(dataset.path or "")
    match dataset.kind:
        case "digits":
            return _read_digits()
        case "images":
            samples = read_images(path, dataset)
        case "npz":
            samples = _read_npz(path, dataset)
        case "csv":
            return read_table(path, dataset)
        case "none":
            samples = _make_none(dataset)
    preprocessing = plan_preprocessing(dataset, samples.preprocessing)
    if wrong := find_wrong_preprocessing(preprocessing, (1, *samples.x.shape[1:])):
        raise invalid(f"dataset.{wrong}", "one number for all channels, or one for each")
    return replace(samples, preprocessing=preprocessing)


def plan_preprocessing(dataset: Dataset, usual: Preprocessing) -> Preprocessing:
    """Return the preprocessing that a recipe asks for; ``usual``: what it is when nothing is asked for."""
    rules = msgspec.structs.replace(usual.rules, mean=dataset.mean, std=dataset.std)
    return Preprocessing(
        colour=usual.colour,
        scale=usual.scale if dataset.scale is None else dataset.scale,
        offset=usual.offset if dataset.offset is None else dataset.offset,
        image=msgspec.UNSET if rules == ImageRules() else rules,
    )


def _read_digits() -> Samples:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = digits.images.astype(np.uint8)[..., np.newaxis]  # 8x8, values 0 to 16
    labels = tuple(str(name) for name in digits.target_names)
    return Samples(x, digits.target.astype(np.int64), labels, Preprocessing(colour="grey", scale=1 / 16))


def _read_npz(path: Path, dataset: Dataset) -> Samples:
    try:
        arrays = read_arrays(path, CODE)
        parts = find_parts(arrays, SPLIT_NAMES, path, dataset)
        labels = _find_labels(arrays.get("labels"), parts, path, dataset)
    except RecipeError:
        raise
    except Invalid as exc:
        raise invalid(exc.message, exc.hint) from exc
    given = None
    if parts[0].name:
        numbers = [SPLIT_NAMES.index(cast("SplitName", part.name)) for part in parts]
        given = np.repeat(numbers, [len(part.x) for part in parts])
    x = np.concatenate([part.x for part in parts])
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    x = x[..., np.newaxis] if x.ndim == 3 else x
    return Samples(x, _join_y(parts), labels, Preprocessing(scale=scale), given, dataset.task)


def _find_labels(given: Array | None, parts: Sequence[Part], path: Path, dataset: Dataset) -> tuple[str, ...]:
    if dataset.task == "regression" or dataset.labels == "none":
        return ()
    return find_labels(given, parts, path)


def _join_y(parts: Sequence[Part]) -> Array | None:
    """Return class numbers as int64, or values as they are checked: (n, outputs) of float32."""
    given = [part.y for part in parts if part.y is not None]
    if not given:
        return None
    whole = given[0].dtype.kind in "iu"
    return np.concatenate([y.astype(np.int64 if whole else np.float32) for y in given])


def _make_none(dataset: Dataset) -> Samples:
    """No samples, but their shape and how values become the model's input."""
    image = len(dataset.input) == 3
    colour = dataset.colour or ({1: "grey", 3: "rgb"}.get(dataset.input[-1]) if image else None)
    x = np.zeros((0, *dataset.input), np.uint8 if image else np.float32)
    return Samples(
        x, None, (), Preprocessing(colour=colour, scale=1 / 255 if image else 1.0), task=dataset.task
    )
