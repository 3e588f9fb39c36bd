"""Grids of signed powers of a base, with zero, in units of a scale.

One term: 0 and +-b^-k for k = 0 .. K-1, K = 2^(bits-1) - 1: one code for the sign, one for zero. Two terms:
sums of two powers, each of which may be zero, whose exponents take turns, so that sums differ (additive
powers of two: Li, Dong, Wang, "Additive Powers-of-Two Quantization", ICLR 2020, section 2.2; here for base
sqrt 2 too, and for any split of the bits).

A weight goes to the nearest level itself, not to the nearest logarithm: that is what the squared error asks
for, and the borders between levels are the midpoints.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.quantization.log_range import LogRange

Array = NDArray[Any]
Base = Literal["2", "sqrt2"]

BASES: Final[dict[Base, float]] = {"2": 2.0, "sqrt2": float(np.sqrt(2.0))}

_EPSILONS: Final = tuple(float(2.0**-k) for k in range(11))
_SCALES: Final = np.geomspace(0.3, 1.2, 25)
"""Where the search for a scale begins, in units of the largest magnitude."""
_ROUNDS: Final = 20


@dataclass(frozen=True, eq=False)
class Grid:
    """``levels``: all values, rising, in units of the scale, odd: -1 .. 0 .. 1. ``borders``: between each
    two, one fewer; a value on a border belongs to the level below it."""

    levels: NDArray[np.float32]
    borders: NDArray[np.float32]

    def nearest(self, values: Array) -> Array:
        """Return the index of the level of each value, itself in units of the scale."""
        return np.searchsorted(self.borders, values)


def power_grid(base: Base, terms: Literal[1, 2], bits: int) -> Grid:
    """Return at most 2^bits - 1 levels: all of them, but for what float32 cannot tell apart."""
    magnitudes = _one_term(BASES[base], bits) if terms == 1 else _two_terms(BASES[base], bits)
    return _symmetric(magnitudes / magnitudes.max())


def range_grid(bits: int, epsilon: float) -> Grid:
    """Return the levels of the quantizer over the range [0, 1] of magnitudes, with a sign.

    Borders lie in the middle between two logarithms, as its rounding has it.
    """
    last = 2 ** (bits - 1) - 1
    rule = LogRange(0.0, 1.0, 0, last, epsilon)
    between = rule.dequantize(np.arange(last) + 0.5)
    positive = _symmetric(rule.dequantize(np.arange(last + 1)))
    return Grid(positive.levels, np.concatenate([-between[::-1], between]).astype(np.float32))


def best_range_grid(weight: Array, largest: Array, bits: int) -> Grid:
    """Return the range grid whose epsilon, a power of 2 in units of the largest magnitude, gives the smallest
    squared error. A large epsilon is nearly linear, a small one spends its levels on tiny weights."""
    grids = [range_grid(bits, epsilon) for epsilon in _EPSILONS]
    return min(grids, key=lambda grid: float(np.square(on_grid(grid, weight, largest) - weight).sum()))


def fit_scale(grid: Grid, weight: Array, axes: tuple[int, ...]) -> Array:
    """Return the scale with a small squared error, for each output channel; ``axes`` are summed over, and
    kept as 1. A channel of zeros has the scale 1.

    From several starts between 0.3 and 1.2 times the largest magnitude, levels and scale take turns: for
    given levels l the best scale is sum(w l) / sum(l^2). The error falls in each round, and the best end is
    taken, so that it is never worse than the largest magnitude as the scale.
    """
    weight = weight.astype(np.float64)
    largest = np.abs(weight).max(axis=axes, keepdims=True)
    best = np.where(largest > 0, largest, 1.0)
    error = _error(grid, weight, best, axes)
    for factor in _SCALES:
        scale = np.where(largest > 0, largest * factor, 1.0)
        for _ in range(_ROUNDS):
            refined = _refine(grid, weight, scale, axes)
            if np.array_equal(refined, scale):
                break
            scale = refined
        found = _error(grid, weight, scale, axes)
        best, error = np.where(found < error, scale, best), np.minimum(found, error)
    return best.astype(np.float32)


def on_grid(grid: Grid, weight: Array, scale: Array) -> Array:
    """Return the weight with each value at its level."""
    return np.asarray(grid.levels[grid.nearest(weight / scale)] * scale)


def _refine(grid: Grid, weight: Array, scale: Array, axes: tuple[int, ...]) -> Array:
    levels = grid.levels[grid.nearest(weight / scale)].astype(np.float64)
    power = np.square(levels).sum(axis=axes, keepdims=True)
    product = (weight * levels).sum(axis=axes, keepdims=True)
    return np.where((power > 0) & (product > 0), product / np.where(power > 0, power, 1.0), scale)


def _error(grid: Grid, weight: Array, scale: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.square(on_grid(grid, weight, scale) - weight).sum(axis=axes, keepdims=True))


def _one_term(base: float, bits: int) -> Array:
    return np.concatenate([[0.0], base ** -np.arange(2.0 ** (bits - 1) - 1)])


def _two_terms(base: float, bits: int) -> Array:
    """The first term has the larger half of the bits without the sign: 0, b^0, b^-2, ..; the second 0,
    b^-1, b^-3, .."""
    first = 2 ** (bits // 2) - 1
    second = 2 ** ((bits - 1) // 2) - 1
    some = np.concatenate([[0.0], base ** (-2.0 * np.arange(first))])
    others = np.concatenate([[0.0], base ** (-2.0 * np.arange(second) - 1.0)])
    return np.asarray((some[:, np.newaxis] + others).ravel())


def _symmetric(magnitudes: Array) -> Grid:
    levels = np.unique(np.concatenate([-magnitudes, magnitudes]).astype(np.float32))
    return Grid(levels, (levels[1:] + levels[:-1]) / np.float32(2))
