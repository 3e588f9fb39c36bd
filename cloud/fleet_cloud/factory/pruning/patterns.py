"""Which weights become zero: the smallest, alone, two of each four, or in blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pattern = Literal["single", "2:4", "block"]

GROUP: Final = 4
"""2:4: so many neighbours ..."""
KEPT: Final = 2
"""... of which at most so many remain."""

_GONE: Final = -1.0
_SAFE: Final = np.inf


@dataclass(frozen=True)
class Units:
    """A kernel as units that become zero together. ``owners``: the unit of each weight, in the kernel's
    shape; ``scores`` (units,): the mean magnitude of each, -1 if it is zero by now, inf if it must stay."""

    owners: Array
    scores: Array

    @property
    def sizes(self) -> Array:
        return np.bincount(self.owners.ravel(), minlength=len(self.scores))

    def keep(self, kept: Array) -> Array:
        """Return which weights stay, given which units do."""
        return np.asarray(kept[self.owners])


def find_units(weight: Array, mask: Array, pattern: Pattern, block: int) -> Units:
    """Return the units of a kernel (..., inputs, outputs), as Keras has it for convolutions and dense layers.

    Blocks lie along the outputs, the last axis: one input is read once for all of a block. 2:4 lies along the
    inputs, the last axis but one: an output is a sum over them, which is the sum that hardware with this
    pattern shortens, and they are neighbours in the file (TFLite: outputs, height, width, inputs). Where the
    channels are no multiple, the last block or four is a smaller one.
    """
    size = block if pattern == "block" else 1
    columns = np.arange(weight.shape[-1]) // size
    rows = np.arange(weight.size // weight.shape[-1])
    owners = (rows[:, np.newaxis] * (columns[-1] + 1) + columns).reshape(weight.shape)
    magnitude = np.abs(weight.astype(np.float64)) * mask
    scores = np.bincount(owners.ravel(), magnitude.ravel()) / np.bincount(owners.ravel())
    scores[np.bincount(owners.ravel(), mask.ravel()) == 0] = _GONE
    if pattern == "2:4":
        largest = _find_two_largest_of_four(scores.reshape(weight.shape)).ravel()
        scores[largest & (scores != _GONE)] = _SAFE
    return Units(owners, scores)


def adapt(units: Units) -> Units:
    """Return the units with scores that can be compared between kernels: the square of each as a share of the
    squares of all that are no smaller ("layer-adaptive magnitude", Lee et al., ICLR 2021). So it counts what
    a kernel loses with a unit, not how large its weights happen to be. Those that must stay are left out."""
    scores = units.scores.copy()
    free = np.flatnonzero((scores != _GONE) & (scores < _SAFE))
    order = free[np.argsort(scores[free], kind="stable")]
    squares = np.square(scores[order]) * units.sizes[order]
    left = np.cumsum(squares[::-1])[::-1]
    scores[order] = squares / np.where(left > 0, left, 1.0)
    return Units(units.owners, scores)


def _find_two_largest_of_four(scores: Array) -> Array:
    """Return where a weight is among the two largest of its four; of equal ones the later."""
    inputs = scores.shape[-2]
    width = [(0, 0)] * (scores.ndim - 2) + [(0, -inputs % GROUP), (0, 0)]
    padded = np.pad(scores, width, constant_values=_GONE - 1)
    fours = padded.reshape(*scores.shape[:-2], -1, GROUP, scores.shape[-1])
    largest = np.argsort(np.argsort(fours, axis=-2, kind="stable"), axis=-2) >= GROUP - KEPT
    return np.asarray(largest.reshape(padded.shape)[..., :inputs, :])


def choose(units: Sequence[Units], share: float) -> list[Array]:
    """Return for each kernel which weights stay (bool, in its shape) when ``share`` of all together that may
    go becomes zero (1: all of them), smallest units first; of equal ones the first.

    The number of zeros is the nearest that whole units allow, half a unit down.
    """
    scores = np.concatenate([one.scores for one in units])
    sizes = np.concatenate([one.sizes for one in units])
    order = np.argsort(scores, kind="stable")
    reached = np.concatenate([[0], np.cumsum(sizes[order])])
    count = int(np.argmin(np.abs(reached - share * sizes[scores < _SAFE].sum())))
    kept = np.ones(len(scores), bool)
    kept[order[:count]] = False
    kept = (kept & (scores != _GONE)) | (scores == _SAFE)
    ends = np.cumsum([len(one.scores) for one in units])[:-1]
    return [one.keep(part) for one, part in zip(units, np.split(kept, ends), strict=True)]
