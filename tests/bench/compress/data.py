"""CIFAR-10 as the benchmark takes it: splits that never change, decoded once.

The archive's own test folder is the test split. 5,000 images of its train folder are for decisions; the
MLPerf Tiny weights have seen them, so that only drops from the float model mean something there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.data import load_splits
from fleet_cloud.factory.recipe import Dataset

ARCHIVE: Final = "cifar10.tar.xz"
SIZE: Final = 32
VALIDATION: Final = 0.1
SPLIT_SEED: Final = 1

Array = NDArray[Any]


@dataclass(frozen=True)
class Images:
    """``x``: (n, 32, 32, 3), values 0 to 255; ``y``: class numbers."""

    x: NDArray[np.uint8]
    y: NDArray[np.int64]

    def first(self, count: int | None) -> "Images":
        return Images(self.x[:count], self.y[:count])


@dataclass(frozen=True)
class Cifar:
    """Each split is in an order drawn once: its first images are a sample of all."""

    train: Images
    validation: Images
    test: Images
    labels: tuple[str, ...]

    def limit(self, count: int | None) -> "Cifar":
        """Return the data with at most so many images for training, a tenth of it for each of the others."""
        other = None if count is None else max(1, count // 10)
        return Cifar(
            self.train.first(count), self.validation.first(other), self.test.first(other), self.labels
        )


def load_cifar(folder: Path, cache: Path) -> Cifar:
    """Load the splits from ``folder``; ``cache``: an ``.npz``, written the first time."""
    if not cache.is_file():
        _write(folder / ARCHIVE, cache)
    with np.load(cache) as arrays:
        parts = {
            name: Images(arrays[f"x_{name}"], arrays[f"y_{name}"]) for name in ("train", "validation", "test")
        }
        return Cifar(**parts, labels=tuple(str(label) for label in arrays["labels"]))


def _write(archive: Path, cache: Path) -> None:
    dataset = Dataset(kind="images", path=str(archive), image_size=SIZE, validation_fraction=VALIDATION)
    splits = load_splits(dataset, SPLIT_SEED)
    arrays: dict[str, Array] = {"labels": np.array(splits.labels)}
    for name in ("train", "validation", "test"):
        split = getattr(splits, name)
        arrays |= {f"x_{name}": split.x, f"y_{name}": split.y}
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(".part.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(cache)
