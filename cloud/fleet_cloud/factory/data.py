"""The three splits of a data set: train (also for calibration), validation (for every decision) and
test (read once for each released variant)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError, RecipeError
from fleet_cloud.factory.reading import SPLIT_NAMES, Samples, read_samples
from fleet_cloud.factory.recipe import Dataset
from fleet_shared.manifest import Preprocessing

Array = NDArray[Any]
Indices = NDArray[np.int64]


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

    def describe(self) -> str:
        """Return how many samples there are in each split."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return ", ".join(f"{len(part.x)} {name}" for name, part in parts.items())


def load_splits(dataset: Dataset, seed: int) -> Splits:
    """Load the data set and split it; the same seed gives the same splits."""
    samples = read_samples(dataset)
    parts = plan_splits(samples, dataset.validation_fraction, dataset.test_fraction, seed)
    train, validation, test = (Split(samples.x[part], samples.y[part]) for part in parts)
    return Splits(train, validation, test, samples.labels, samples.preprocessing, _digest(samples))


def write_source(split: Split, path: Path) -> None:
    """Write a split as a source for devices; raise `BuildError` (``build.output``)."""
    if path.suffix != ".npz":
        raise BuildError(f"{path} is no name of a source", hint="it ends in .npz", code="build.output")
    try:
        np.savez_compressed(path, x=split.x, y=split.y)
    except OSError as exc:
        raise BuildError(
            f"{path} cannot be written: {exc.strerror}", hint="choose another folder", code="build.output"
        ) from exc


def plan_splits(
    samples: Samples, validation_fraction: float, test_fraction: float, seed: int
) -> tuple[Indices, Indices, Indices]:
    """Return the indices of train, validation and test, shuffled.

    Splits that the data set names are kept. What it does not name is drawn out of train, of each
    class alike; nothing is ever drawn out of a test split that was given.
    """
    random = np.random.default_rng(seed)
    given = samples.given if samples.given is not None else np.zeros(len(samples.y), dtype=np.int64)
    train, validation, test = (np.flatnonzero(given == number) for number in range(len(SPLIT_NAMES)))
    if not len(test):
        train, test = _draw(samples, train, test_fraction, random)
        validation_fraction /= 1 - test_fraction
    if not len(validation):
        train, validation = _draw(samples, train, validation_fraction, random)
    _check(samples, (train, validation, test))
    return random.permutation(train), random.permutation(validation), random.permutation(test)


def _draw(
    samples: Samples, pool: Indices, fraction: float, random: np.random.Generator
) -> tuple[Indices, Indices]:
    """Return what stays and what is drawn: ``fraction`` of each class."""
    stays, drawn = [pool[:0]], [pool[:0]]
    for number in range(len(samples.labels)):
        members = random.permutation(pool[samples.y[pool] == number])
        count = round(fraction * len(members))
        drawn.append(members[:count])
        stays.append(members[count:])
    return np.concatenate(stays), np.concatenate(drawn)


def _check(samples: Samples, parts: tuple[Indices, Indices, Indices]) -> None:
    """Refuse splits in which a class has no sample: nothing could be said about it."""
    for number, label in enumerate(samples.labels):
        for name, part in zip(SPLIT_NAMES, parts, strict=True):
            if not np.any(samples.y[part] == number):
                total = int(np.sum(samples.y == number))
                raise RecipeError(
                    f"class {label!r} has {total} samples and none of them in the {name} split",
                    hint="give more samples of it, or other fractions",
                    code="recipe.data.small",
                )


def _digest(samples: Samples) -> str:
    """Name the data by its content, in whichever order an archive holds it."""
    each = sorted(
        hashlib.sha256(np.ascontiguousarray(x).tobytes() + samples.labels[y].encode()).digest()
        for x, y in zip(samples.x, samples.y, strict=True)
    )
    return hashlib.sha256(b"".join(each)).hexdigest()
