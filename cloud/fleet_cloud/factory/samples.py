"""All samples of a data set, before they are split."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.lab import Task
from fleet_shared.manifest import Preprocessing

Array = NDArray[Any]
SplitName = Literal["train", "validation", "test"]

SPLIT_NAMES: Final[tuple[SplitName, ...]] = ("train", "validation", "test")


@dataclass(frozen=True)
class Samples:
    """``x``: raw, as a device's source gives them; ``y``: class numbers, target values (n, outputs), or none
    for samples without labels; ``given``: which split a sample belongs to, in the order of `SPLIT_NAMES`,
    for data sets that say so themselves; ``skipped``: what could not be read and was left out;
    ``standardise``: the preprocessing still lacks mean and standard deviation of the training split."""

    x: Array
    y: Array | None
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    given: NDArray[np.int64] | None = None
    task: Task = "classification"
    skipped: tuple[str, ...] = ()
    standardise: bool = False
