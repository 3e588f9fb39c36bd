"""What a pass may look at: the training and the validation split. The test split is not here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.events import BuildEvent
from fleet_shared.manifest import Preprocessing
from fleet_shared.pixels import to_real

Array = NDArray[Any]
Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Part:
    """``x``: raw samples; ``y``: class numbers, or target values (n, outputs); none: unlabelled."""

    x: Array
    y: Array | None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Lab:
    """``augment``: changes a batch of real inputs (a Keras layer called with ``training=True``), or none.
    ``teachers``: models that end in logits, by their name in the recipe: the one that the pass names.
    ``goal``: whether a validation score (more is better) is good enough for the gates, if there are some."""

    train: Part
    validation: Part
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    seed: int
    say: Callable[[BuildEvent], None]
    task: Task = "classification"
    augment: Any = None
    teachers: Mapping[str, Any] = field(default_factory=dict)
    goal: Callable[[float], bool] | None = None

    def real(self, x: Array) -> NDArray[np.float32]:
        """Return raw samples as the model takes them."""
        return to_real(x, self.preprocessing)

    def draw(self, count: int) -> NDArray[np.float32]:
        """Return ``count`` real training samples (all, if there are fewer), the same ones for a seed."""
        order = np.random.default_rng(self.seed).permutation(len(self.train))[:count]
        return self.real(self.train.x[np.sort(order)])
