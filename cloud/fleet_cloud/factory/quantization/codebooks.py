"""Weights that share the entries of a codebook."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import keras
import numpy as np

from fleet_cloud.factory.constraints import Array, Parts, Tensor, register

GRID: Final = 127
"""The largest code of int8 with a narrow range."""


@register
@dataclass(frozen=True, eq=False)
class Codebook:
    """Weights, or groups of neighbours, are entries: the gradients of all that share an entry add up in it.

    ``entries`` (rows, group); ``free`` (rows, 1): 0 for an entry that stays as it is (that of the zeros);
    ``indices`` (groups,): a row for each group, groups in the order of the axes ``order``, the last one cut
    where the weight ends; ``mask``, in the weight's shape: zero stays zero. A channel's own codebook is a run
    of rows.
    """

    kind: ClassVar[str] = "codebook"
    entries: Array
    free: Array
    indices: Array
    mask: Array
    order: tuple[int, ...]

    def split(self) -> Parts:
        return Parts((self.entries,), (self.free, self.indices, self.mask), rows={0: self.rows})

    @property
    def rows(self) -> Array:
        """The row of each weight, in its shape."""
        shape = self.mask.shape
        flat = np.repeat(self.indices, self.entries.shape[1])[: self.mask.size]
        ordered = flat.reshape([shape[axis] for axis in self.order])
        return np.asarray(ordered.transpose(np.argsort(self.order)))

    def compose(self, trained: Sequence[Tensor], held: Sequence[Tensor]) -> Tensor:
        (entries,), (free, indices, mask) = trained, held
        ops = keras.ops
        shape = self.mask.shape
        flat = ops.reshape(ops.take(_hold(entries, free), indices, axis=0), (-1,))[: self.mask.size]
        ordered = ops.reshape(flat, [shape[axis] for axis in self.order])
        return ops.transpose(ordered, np.argsort(self.order).tolist()) * mask

    def settle(self, parts: Parts) -> Self:
        (entries,), (free, indices, mask) = parts.trained, parts.held
        return type(self)(entries, free, indices, mask, self.order)


@register
@dataclass(frozen=True, eq=False)
class ScaledCodebook:
    """weight = scale of its channel x a shared entry, a multiple of 1/127 between -1 and 1.

    ``entries`` (rows,); ``scales``: broadcasts to the weight; ``free`` (rows,): 0 for those that stay, -1, 0
    and 1; ``indices``: a row for each weight, in its shape. In each channel some weight is -1 or 1, so that
    TFLite's scale of the channel, its largest magnitude / 127, is the one here / 127, and the int8 codes of
    the whole tensor are 127 x the entries. Gradients go straight through the rounding of the entries.
    """

    kind: ClassVar[str] = "scaled-codebook"
    entries: Array
    scales: Array
    free: Array
    indices: Array

    def split(self) -> Parts:
        return Parts((self.entries, self.scales), (self.free, self.indices), ratios=frozenset({0}))

    def compose(self, trained: Sequence[Tensor], held: Sequence[Tensor]) -> Tensor:
        (entries, scales), (free, indices) = trained, held
        return keras.ops.take(round_to_grid(entries, free), indices, axis=0) * scales

    def settle(self, parts: Parts) -> Self:
        (entries, scales), (free, indices) = parts.trained, parts.held
        return type(self)(np.clip(entries, -1.0, 1.0), scales, free, indices)

    def scale(self, factor: Array) -> Self:
        return type(self)(self.entries, self.scales * factor, self.free, self.indices)


def round_to_grid(entries: Tensor, free: Tensor) -> Tensor:
    """Return the entries as multiples of 1/127, with a gradient for the free ones as if they were not
    rounded, but for those beyond -1 and 1."""
    ops = keras.ops
    inside = ops.clip(_hold(entries, free), -1.0, 1.0)
    rounded = ops.round(ops.stop_gradient(inside) * GRID) / GRID
    return rounded + (inside - ops.stop_gradient(inside))


def _hold(entries: Tensor, free: Tensor) -> Tensor:
    """Return the entries, exactly, with a gradient for the free ones only."""
    return entries * free + keras.ops.stop_gradient(entries) * (1.0 - free)
