"""Weights that share entries and may change over to another one while they are trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import keras
import numpy as np

from fleet_cloud.factory.constraints import Array, Parts, Tensor, register
from fleet_cloud.factory.quantization.codebooks import ScaledCodebook, round_to_grid


@register
@dataclass(frozen=True, eq=False)
class ChangingCodebook:
    """A `ScaledCodebook` whose indices follow from latent weights: each has the entry with the smallest
    (latent / scale - entry)^2 + toll, the toll being what the bits of that entry cost in its channel.

    ``latent``: in the weight's shape; ``entries`` (rows,); ``scales``: broadcasts to the weight; ``free``
    (rows,); ``tolls``: broadcasts to the weight's shape with (rows,) behind it; ``pinned``: the index that
    zeros and the largest of each channel have for good, -1 for the others. The gradient goes straight through
    to the latent weight, and as in a `ScaledCodebook` to entries and scales; so the weights learn to live
    with fewer bits, as they do with rounding.
    """

    kind: ClassVar[str] = "changing-codebook"
    latent: Array
    entries: Array
    scales: Array
    free: Array
    tolls: Array
    pinned: Array

    def split(self) -> Parts:
        return Parts(
            (self.latent, self.entries, self.scales),
            (self.free, self.tolls, self.pinned),
            ratios=frozenset({1}),
        )

    def compose(self, trained: Sequence[Tensor], held: Sequence[Tensor]) -> Tensor:
        (latent, entries, scales), (free, tolls, pinned) = trained, held
        ops = keras.ops
        ratio = latent / scales
        values = round_to_grid(entries, free)
        index = _cheapest(ratio, values, tolls, pinned)
        moved = ops.where(pinned < 0, ratio - ops.stop_gradient(ratio), 0.0)  # zero, with a gradient
        return ops.take(values, index, axis=0) * scales + moved * ops.stop_gradient(scales)

    def settle(self, parts: Parts) -> Self:
        (latent, entries, scales), (free, tolls, pinned) = parts.trained, parts.held
        return type(self)(latent, np.clip(entries, -1.0, 1.0), scales, free, tolls, pinned)

    def freeze(self) -> ScaledCodebook:
        """Return the codebook of the same weight, in which no weight changes any more, without the entries
        that no weight has."""
        values = round_to_grid(self.entries, self.free)
        index = _cheapest(self.latent / self.scales, values, self.tolls, self.pinned)
        used, indices = np.unique(np.asarray(index), return_inverse=True)
        return ScaledCodebook(
            self.entries[used],
            self.scales,
            self.free[used],
            indices.reshape(self.latent.shape).astype(np.int32),
        )


def _cheapest(ratio: Tensor, values: Tensor, tolls: Tensor, pinned: Tensor) -> Tensor:
    ops = keras.ops
    cost = ops.square(ops.expand_dims(ratio, -1) - values) + tolls
    return ops.where(pinned < 0, ops.cast(ops.argmin(cost, axis=-1), "int32"), pinned)
