"""The three splits of a data set: train (also for calibration), validation (for every decision) and
test (read once for each released variant)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError, RecipeError
from fleet_cloud.factory.events import BuildEvent, Warned
from fleet_cloud.factory.lab import Lab, Part, Task
from fleet_cloud.factory.reading import read_samples
from fleet_cloud.factory.recipe.dataset import Augment, Dataset
from fleet_cloud.factory.samples import SPLIT_NAMES, Samples
from fleet_shared.manifest import Preprocessing

Array = NDArray[Any]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """``x``: raw samples as a device's source gives them, (n, height, width, channels) or
    (n, features); ``y``: class numbers, or target values (n, outputs); none: nobody says what they are."""

    x: Array
    y: Any

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Splits:
    """``digest``: sha256 over all samples and labels; ``skipped``: files that could not be read and were
    left out; ``augment``: how the training samples are changed."""

    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    digest: str
    task: Task = "classification"
    skipped: tuple[str, ...] = ()
    augment: Augment | None = None

    def describe(self) -> str:
        """Return how many samples there are in each split."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return ", ".join(f"{len(part.x)} {name}" for name, part in parts.items())


def load_splits(dataset: Dataset, seed: int) -> Splits:
    """Load the data set and split it; the same seed gives the same splits."""
    samples = read_samples(dataset)
    parts = plan_splits(samples, dataset.validation_fraction, dataset.test_fraction, seed)
    train, validation, test = (_take(samples, part) for part in parts)
    return Splits(
        train,
        validation,
        test,
        samples.labels,
        standardise(samples.preprocessing, train.x) if samples.standardise else samples.preprocessing,
        _digest(samples),
        samples.task,
        samples.skipped,
        dataset.augment,
    )


def make_lab(splits: Splits, seed: int, say: Callable[[BuildEvent], None]) -> Lab:
    """Return what passes may look at: not the test split. Says which files were left out."""
    from fleet_cloud.factory.augmentation import make_augmentation  # imports TensorFlow

    if splits.skipped:
        names = ", ".join(splits.skipped[:5]) + (" ..." if len(splits.skipped) > 5 else "")
        say(Warned(message=f"{len(splits.skipped)} images cannot be read and were left out: {names}"))
    return Lab(
        train=Part(splits.train.x, splits.train.y),
        validation=Part(splits.validation.x, splits.validation.y),
        preprocessing=splits.preprocessing,
        labels=splits.labels,
        seed=seed,
        say=say,
        task=splits.task,
        augment=make_augmentation(splits.augment, splits.train.x, splits.preprocessing, seed),
    )


def standardise(preprocessing: Preprocessing, x: Array) -> Preprocessing:
    """Return the preprocessing that brings each feature of ``x`` (n, features) to mean 0 and deviation 1;
    one that never changes keeps its deviation."""
    wide = x.astype(np.float64)
    deviation = wide.std(axis=0)
    rules = msgspec.structs.replace(
        preprocessing.rules,
        mean=tuple(wide.mean(axis=0).tolist()),
        std=tuple(np.where(deviation > 0, deviation, 1.0).tolist()),
    )
    return msgspec.structs.replace(preprocessing, image=rules)


def _take(samples: Samples, part: Indices) -> Split:
    return Split(samples.x[part], None if samples.y is None else samples.y[part])


def write_source(split: Split, path: Path) -> None:
    """Write a split as a source for devices; raise `BuildError` (``build.output``)."""
    if path.suffix != ".npz":
        raise BuildError(f"{path} is no name of a source", hint="it ends in .npz", code="build.output")
    arrays = {"x": split.x} if split.y is None else {"x": split.x, "y": split.y}
    try:
        np.savez_compressed(path, **arrays)
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
    given = samples.given if samples.given is not None else np.zeros(len(samples.x), dtype=np.int64)
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
    for group in _find_groups(samples, pool):
        members = random.permutation(group)
        count = round(fraction * len(members))
        drawn.append(members[:count])
        stays.append(members[count:])
    return np.concatenate(stays), np.concatenate(drawn)


def _find_groups(samples: Samples, pool: Indices) -> list[Indices]:
    """Return what is drawn from alike: the samples of each class, or all."""
    if samples.y is None or samples.task == "regression":
        return [pool]
    return [pool[samples.y[pool] == number] for number in range(len(samples.labels))]


def _check(samples: Samples, parts: tuple[Indices, Indices, Indices]) -> None:
    """Refuse splits in which a class has no sample, or which have none: nothing could be said about it."""
    everything = np.arange(len(samples.x))
    whats = [f"class {label!r} has" for label in samples.labels] or ["the data set has"]
    for group, what in zip(_find_groups(samples, everything), whats, strict=True):
        for name, part in zip(SPLIT_NAMES, parts, strict=True):
            if len(everything) and not len(np.intersect1d(group, part)):
                raise RecipeError(
                    f"{what} {len(group)} samples and none of them in the {name} split",
                    hint="give more samples of it, or other fractions",
                    code="recipe.data.small",
                )


def _digest(samples: Samples) -> str:
    """Name the data by its content, in whichever order an archive holds it."""
    each = sorted(
        hashlib.sha256(np.ascontiguousarray(x).tobytes() + _describe(samples, number)).digest()
        for number, x in enumerate(samples.x)
    )
    return hashlib.sha256(b"".join(each)).hexdigest()


def _describe(samples: Samples, number: int) -> bytes:
    if samples.y is None:
        return b""
    if samples.task == "regression":
        values: bytes = np.ascontiguousarray(samples.y[number]).tobytes()
        return values
    return samples.labels[int(samples.y[number])].encode()
