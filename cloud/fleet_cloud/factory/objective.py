"""What a training minimises, and how its result is judged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras

from fleet_cloud.factory.lab import Task

Tensor = Any


class Objective(Protocol):
    """What is minimised. ``taps``: layers, by name, whose outputs it looks at besides the logits."""

    @property
    def taps(self) -> Sequence[str]: ...

    @property
    def needs_labels(self) -> bool: ...

    def __call__(self, x: Tensor, y: Tensor, logits: Tensor, tapped: Sequence[Tensor], /) -> Tensor:
        """Return the mean loss of a batch of real inputs, a scalar. ``y`` means nothing if no labels are
        needed."""


@dataclass(frozen=True)
class Hard:
    """The labels alone: cross-entropy of logits, or the squared error."""

    task: Task = "classification"
    taps: Sequence[str] = ()
    needs_labels: bool = True

    def __call__(self, _x: Tensor, y: Tensor, logits: Tensor, _tapped: Sequence[Tensor], /) -> Tensor:
        if self.task == "regression":
            return keras.ops.mean(keras.ops.square(logits - keras.ops.cast(y, logits.dtype)))
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))


def rate(task: Task, y: Tensor, logits: Tensor) -> Tensor:
    """Return a number (batch,) for each sample: 1 where the largest logit is the class, else 0; or minus the
    mean squared error of its outputs. More is better; what is no number is none here."""
    if task == "regression":
        return -keras.ops.mean(keras.ops.square(logits - keras.ops.cast(y, logits.dtype)), axis=-1)
    right = keras.ops.cast(keras.ops.equal(keras.ops.argmax(logits, axis=-1), y), "float32")
    return keras.ops.where(keras.ops.all(keras.ops.isfinite(logits), axis=-1), right, math.nan)
