"""k-means over single numbers: optimal, with centres that stay where they are, and at a rate of bits.

In one dimension the cells of an optimal clustering are intervals, so that dynamic programming finds it
(Bellman, 1973; Wang, Song, "Ckmeans.1d.dp", The R Journal, 2011).
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]
Fixed = tuple[float, ...]
_Begins = dict[tuple[int, int], tuple[Indices, Flags]]
"""By the number of fixed and free centres: where the last cell begins, and whether its centre is free."""

BINS: Final = 512
"""With more distinct values than this, neighbours are put together where the search starts; Lloyd's rule then
goes on with all values."""
_ROUNDS: Final = 100
_CHUNK: Final = 65_536
"""Values that are compared with all centres at once."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """``centres``: rising; ``free``: which of them k-means may move (bool); ``indices``: the centre of each
    value, in the values' shape."""

    centres: Floats
    free: Flags
    indices: Indices


def cluster_values(
    values: Array,
    count: int,
    weights: Array | None = None,
    fixed: Fixed = (),
    price: float = 0.0,
) -> Clusters:
    """Return at most ``count`` clusters of ``values`` (any shape), the ``fixed`` centres among them, with a
    small sum of weight x squared distance; the smallest there is for up to `BINS` distinct values.

    ``price``: what one bit of an entropy coder costs beside weight x squared distance: values then prefer
    centres that many others have, and centres that are not worth their bits are given up
    (entropy-constrained quantization: Chou, Lookabaugh, Gray, 1989), but for values that are fixed centres:
    they have them. 0: the distance alone.
    Raises `ValueError` if there are more fixed centres than ``count``.
    """
    if len(fixed) > count or count < 1:
        raise ValueError(f"{count} clusters, {len(fixed)} of them fixed")
    x = np.asarray(values, np.float64).ravel()
    w = np.ones_like(x) if weights is None else np.broadcast_to(weights, values.shape).astype(float).ravel()
    rest = ~np.isin(x, fixed)  # those cost nothing, whatever the free centres are
    start = _find_optimum(*_put_together(x[rest], w[rest]), count - len(fixed), tuple(sorted(fixed)))
    found = _lloyd(x, w, start)
    if price > 0:
        found = _with_price(x, w, found, price, np.isin(x, fixed))
    return Clusters(found.centres, found.free, found.indices.reshape(values.shape))


def nearest(values: Array, centres: Floats) -> Indices:
    """Return the index of the nearest of the rising ``centres``; of two the lower."""
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, values).astype(np.int64)


def code_lengths(indices: Array, count: int) -> Floats:
    """Return the bits that an ideal coder spends on each centre; infinite for one that nobody has."""
    counts = np.bincount(indices.ravel(), minlength=count)
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log2(counts / counts.sum()))


@dataclass(frozen=True, eq=False)
class _Centres:
    centres: Floats
    free: Flags


def _put_together(x: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Return the distinct values, rising, with their weights; or the means of `BINS` runs of them."""
    distinct, where = np.unique(x, return_inverse=True)
    total = np.bincount(where, w).astype(np.float64)
    if len(distinct) <= BINS:
        return distinct, total
    reached = np.cumsum(total)
    run = np.minimum((reached - total / 2) / reached[-1] * BINS, BINS - 1).astype(int)
    runs = np.unique(run, return_inverse=True)[1]
    sums = np.bincount(runs, total).astype(np.float64)
    return np.bincount(runs, total * distinct) / sums, sums


def _find_optimum(x: Floats, w: Floats, count: int, fixed: Fixed) -> _Centres:
    """Return the best centres for rising distinct values: at most ``count`` free ones, and the fixed.

    best[f, k][j]: the least cost of the first j values with the first f fixed centres and k free ones. The
    last cell [i, j) belongs to a free centre, its mean, or to the f-th fixed one.
    """
    if not len(x):
        return _Centres(np.array(fixed), np.zeros(len(fixed), bool))
    cost = _cell_costs(x, w)
    best: dict[tuple[int, int], Floats] = {}
    begins: _Begins = {}
    for f in range(len(fixed) + 1):
        for k in range(count + 1):
            some = np.full(len(x) + 1, np.inf)
            where = np.zeros(len(x) + 1, np.int64)
            by_free = np.zeros(len(x) + 1, bool)
            if f == k == 0:
                some[0] = 0.0
            if f:
                some, where = _add_fixed(best[f - 1, k], x, w, fixed[f - 1])
            if k:
                table = best[f, k - 1][:, np.newaxis] + cost
                begin = table.argmin(axis=0)
                other = table[begin, np.arange(len(x) + 1)]
                by_free = other < some
                some, where = np.where(by_free, other, some), np.where(by_free, begin, where)
            best[f, k], begins[f, k] = some, (where, by_free)
    return _walk_back(x, w, begins, (len(fixed), count), fixed)


def _cell_costs(x: Floats, w: Floats) -> Floats:
    """Return the weighted squared distances of the values [i, j) from their mean; infinite for i > j."""
    centred = x - np.average(x, weights=w)
    zero = np.zeros(1)
    mass, first, second = (
        np.concatenate([zero, np.cumsum(w * power)]) for power in (np.ones_like(x), centred, centred**2)
    )
    m, s, q = (one[np.newaxis, :] - one[:, np.newaxis] for one in (mass, first, second))
    cells = np.maximum(q - np.square(s) / np.where(m > 0, m, 1.0), 0.0)
    cells[np.tril_indices(len(x) + 1, -1)] = np.inf
    return np.asarray(cells)


def _add_fixed(before: Floats, x: Floats, w: Floats, centre: float) -> tuple[Floats, Indices]:
    """Return the costs with one more cell, that of a fixed centre, perhaps empty, and where it begins."""
    reached = np.concatenate([np.zeros(1), np.cumsum(w * np.square(x - centre))])
    left = before - reached
    least = np.minimum.accumulate(left)
    is_new = np.concatenate([np.ones(1, bool), left[1:] < least[:-1]])
    return least + reached, np.maximum.accumulate(np.where(is_new, np.arange(len(left)), 0))


def _walk_back(x: Floats, w: Floats, begins: _Begins, last: tuple[int, int], fixed: Fixed) -> _Centres:
    (f, k), end = last, len(x)
    means: list[float] = []
    while f or k:
        where, by_free = begins[f, k]
        begin = int(where[end])
        if by_free[end] and begin < end:
            means.append(float(np.average(x[begin:end], weights=w[begin:end])))
        f, k, end = (f, k - 1, begin) if by_free[end] else (f - 1, k, begin)
    centres = np.array([*fixed, *means])
    free = np.arange(len(centres)) >= len(fixed)
    order = np.argsort(centres, kind="stable")
    return _Centres(centres[order], free[order])


def _lloyd(x: Floats, w: Floats, start: _Centres) -> Clusters:
    """Assign and move in turns until nothing changes. Each round lowers the cost or ends."""
    found = Clusters(start.centres, start.free, nearest(x, start.centres))
    for _ in range(_ROUNDS):
        moved = _move(x, w, found)
        indices = nearest(x, moved.centres)
        found = replace(moved, indices=indices)
        if np.array_equal(indices, moved.indices):
            break
    return found


def _move(x: Floats, w: Floats, found: Clusters) -> Clusters:
    """Return the clusters with the free centres at the means of what they have, in rising order."""
    mass = np.bincount(found.indices, w, len(found.centres))
    sums = np.bincount(found.indices, w * x, len(found.centres))
    has_some = found.free & (mass > 0)
    centres = np.where(has_some, sums / np.where(has_some, mass, 1.0), found.centres)
    order = np.argsort(centres, kind="stable")
    return Clusters(centres[order], found.free[order], np.argsort(order)[found.indices])


def _with_price(x: Floats, w: Floats, found: Clusters, price: float, is_fixed: Flags) -> Clusters:
    """Assign by weight x squared distance + price x bits, and move, in turns. ``is_fixed``: which values are
    fixed centres themselves, and stay there."""
    for _ in range(_ROUNDS):
        used = _drop_unused(found)
        prices = price * code_lengths(used.indices, len(used.centres))
        indices = _cheapest(x, w, used.centres, prices)
        indices[is_fixed] = np.searchsorted(used.centres, x[is_fixed])
        found = _move(x, w, replace(used, indices=indices))
        if np.array_equal(indices, used.indices):
            break
    return _drop_unused(found)


def _drop_unused(found: Clusters) -> Clusters:
    """Return the clusters without the free centres that nobody has."""
    kept = (np.bincount(found.indices, minlength=len(found.centres)) > 0) | ~found.free
    return Clusters(found.centres[kept], found.free[kept], (np.cumsum(kept) - 1)[found.indices])


def _cheapest(x: Floats, w: Floats, centres: Floats, prices: Floats) -> Indices:
    parts = []
    for begin in range(0, len(x), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        distance = np.square(x[rows, np.newaxis] - centres) * w[rows, np.newaxis]
        parts.append((distance + prices).argmin(axis=1))
    return np.concatenate(parts)
