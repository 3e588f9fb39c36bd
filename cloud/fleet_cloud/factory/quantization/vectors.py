"""k-means over groups of numbers (product quantization), some of which may be masked.

Lloyd's rule from seeds that lie apart (k-means++: Arthur, Vassilvitskii, 2007), a few times, of which the
best is taken. The distance of a group to a centre counts the numbers that the mask leaves.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]

_STARTS: Final = (3, 30)
"""At least, and at most: as many as compare ..."""
_COMPARED: Final = 1_000_000
"""... so many pairs of group and centre in a round."""
_ROUNDS: Final = 60
_CHUNK: Final = 16_384
"""Groups that are compared with all centres at once."""


@dataclass(frozen=True, eq=False)
class VectorClusters:
    """``centres`` (count, group); ``indices`` (n,); ``cost``: the sum of squared distances."""

    centres: Floats
    indices: NDArray[np.int64]
    cost: float


def cluster_vectors(groups: Array, mask: Array, count: int, random: np.random.Generator) -> VectorClusters:
    """Return at most ``count`` clusters of ``groups`` (n, group), for which ``mask`` has 1 where a number
    counts and 0 where it does not. The same generator gives the same clusters."""
    x = np.asarray(groups, np.float64) * mask
    distinct = len(np.unique(x, axis=0))
    starts = int(np.clip(_COMPARED // (len(x) * count), *_STARTS))
    runs = [_lloyd(x, mask, _seed(x, mask, min(count, distinct), random)) for _ in range(starts)]
    return min(runs, key=lambda run: run.cost)


def _seed(x: Floats, mask: Array, count: int, random: np.random.Generator) -> Floats:
    """Return groups as centres, each drawn with a chance in proportion to its squared distance from those
    before it."""
    chosen = [int(random.integers(len(x)))]
    distance = _distances(x, mask, x[chosen])[:, 0]
    while len(chosen) < count and distance.sum() > 0:
        chosen.append(int(random.choice(len(x), p=distance / distance.sum())))
        distance = np.minimum(distance, _distances(x, mask, x[chosen[-1:]])[:, 0])
    return x[chosen]


def _lloyd(x: Floats, mask: Array, centres: Floats) -> VectorClusters:
    indices, cost = _assign(x, mask, centres)
    for _ in range(_ROUNDS):
        centres = _move(x, mask, centres, indices)
        again, cost = _assign(x, mask, centres)
        if np.array_equal(again, indices):
            break
        indices = again
    return VectorClusters(centres, again, cost)


def _move(x: Floats, mask: Array, centres: Floats, indices: NDArray[np.int64]) -> Floats:
    """Return the mean of what each centre has, number by number; what nobody counts stays."""
    columns = range(x.shape[1])
    sums = np.stack([np.bincount(indices, x[:, one], len(centres)) for one in columns], axis=1)
    mass = np.stack([np.bincount(indices, mask[:, one], len(centres)) for one in columns], axis=1)
    return np.asarray(np.where(mass > 0, sums / np.maximum(mass, 1), centres))


def _assign(x: Floats, mask: Array, centres: Floats) -> tuple[NDArray[np.int64], float]:
    indices, cost = [], 0.0
    for begin in range(0, len(x), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        distance = _distances(x[rows], mask[rows], centres)
        indices.append(distance.argmin(axis=1))
        cost += float(distance.min(axis=1).sum())
    return np.concatenate(indices), cost


def _distances(x: Floats, mask: Array, centres: Floats) -> Floats:
    """Return the squared distances (n, count): sum of mask (x - c)^2 = sum x^2 - 2 x c + mask c^2."""
    square = np.square(x).sum(axis=1)[:, np.newaxis] - 2 * x @ centres.T + mask @ np.square(centres).T
    return np.asarray(np.maximum(square, 0.0))
