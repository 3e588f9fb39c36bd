"""Weights of which some are zero, and stay zero."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from fleet_cloud.factory.constraints import Array, Constraint, Parts, Tensor, register


@register
@dataclass(frozen=True, eq=False)
class Mask:
    """weight = latent x mask, so that no gradient reaches what the mask takes away. ``mask``: 0 or 1, in the
    weight's shape and type."""

    kind: ClassVar[str] = "mask"
    latent: Array
    mask: Array

    def split(self) -> Parts:
        return Parts((self.latent,), (self.mask,))

    def compose(self, trained: Sequence[Tensor], held: Sequence[Tensor]) -> Tensor:
        (latent,), (mask,) = trained, held
        return latent * mask

    def settle(self, parts: Parts) -> Self:
        (latent,), (mask,) = parts.trained, parts.held
        return type(self)(latent, mask)

    def take(self, kept: Mapping[int, Array]) -> Self:
        latent, mask = self.latent, self.mask
        for axis, indices in kept.items():
            latent, mask = latent.take(indices, axis), mask.take(indices, axis)
        return type(self)(latent, mask)

    def scale(self, factor: Array) -> Self:
        return type(self)((self.latent * factor).astype(self.latent.dtype), self.mask)


def mask_of(weight: Array, constraint: Constraint | None) -> Mask | None:
    """Return the mask that a weight has by now, or none if it keeps something else.

    A free weight's exact zeros count as pruned: training leaves none by chance, so another tool made them.
    """
    if constraint is None:
        return Mask(weight, (weight != 0).astype(weight.dtype))
    return constraint if isinstance(constraint, Mask) else None


def count_zeros(masks: Any) -> int:
    """Return how many weights some masks take away."""
    return sum(int(np.sum(one.mask == 0)) for one in masks)
