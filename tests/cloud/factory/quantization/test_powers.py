"""Grids of powers: their levels, the nearest one, the scale with the smallest error."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fleet_cloud.factory.quantization.powers import (
    Base,
    best_range_grid,
    fit_scale,
    on_grid,
    power_grid,
    range_grid,
)

ALL = [(base, terms, bits) for base in ("2", "sqrt2") for terms in (1, 2) for bits in range(3, 9)]


def weights(seed: int = 0, shape: tuple[int, ...] = (3, 3, 4, 6)) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return (random.standard_t(5, shape) * random.uniform(0.01, 2, shape[-1])).astype(np.float32)


def test_three_bits_of_powers_of_two() -> None:
    assert power_grid("2", 1, 3).levels.tolist() == [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]


def test_five_bits_of_powers_of_the_root_of_two_reach_128_times_below() -> None:
    levels = power_grid("sqrt2", 1, 5).levels
    assert len(levels) == 31
    assert np.allclose(levels[16:] ** 2, 2.0 ** np.arange(-14, 1))


def test_two_terms_are_sums_of_two_powers() -> None:
    """4 bits, three of them for magnitudes: {0, 1, 1/4, 1/16} + {0, 1/2}, the largest of which is 1.5."""
    sums = np.unique(np.add.outer([0, 1, 1 / 4, 1 / 16], [0, 1 / 2]))
    assert np.allclose(power_grid("2", 2, 4).levels[7:], sums / 1.5)


@pytest.mark.parametrize(("base", "terms", "bits"), ALL)
def test_grids_are_symmetric_with_zero_and_use_their_bits(
    base: Base, terms: Literal[1, 2], bits: int
) -> None:
    levels = power_grid(base, terms, bits).levels
    assert len(levels) == 2**bits - 1 or (bits == 8 and terms == 2)  # 1 + 2^-28 is 1 in float32
    assert len(levels) > 200 or bits < 8
    assert np.all(np.diff(levels) > 0)
    assert np.array_equal(levels, -levels[::-1])
    assert levels[len(levels) // 2] == 0
    assert levels[-1] == 1


@pytest.mark.parametrize(("base", "terms", "bits"), ALL)
def test_each_value_has_the_nearest_level(base: Base, terms: Literal[1, 2], bits: int) -> None:
    grid = power_grid(base, terms, bits)
    values = np.linspace(-1.5, 1.5, 2001).astype(np.float32)
    distance = np.abs(values[:, np.newaxis] - grid.levels)
    assert np.allclose(np.abs(values - grid.levels[grid.nearest(values)]), distance.min(axis=1), atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 8), st.integers(0, 10))
def test_the_range_grid_rounds_in_the_logarithm(bits: int, power: int) -> None:
    epsilon = 2.0**-power
    grid = range_grid(bits, epsilon)
    assert len(grid.levels) == 2**bits - 1
    values = np.linspace(0, 1, 300)
    distance = np.abs(np.log(values[:, np.newaxis] + epsilon) - np.log(np.maximum(grid.levels, 0) + epsilon))
    assert np.allclose(
        np.abs(np.log(values + epsilon) - np.log(grid.levels[grid.nearest(values)] + epsilon)),
        distance.min(axis=1),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("base", "terms", "bits"), [("2", 1, 3), ("2", 1, 5), ("sqrt2", 1, 5), ("sqrt2", 2, 4)]
)
def test_the_scale_is_as_good_as_a_search_in_small_steps(base: Base, terms: Literal[1, 2], bits: int) -> None:
    grid, weight, axes = power_grid(base, terms, bits), weights(), (0, 1, 2)
    largest = np.abs(weight).max(axis=axes, keepdims=True)

    def error(
        scale: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        return np.asarray(np.square(on_grid(grid, weight, scale).astype(np.float64) - weight).sum(axis=axes))

    found = error(fit_scale(grid, weight, axes))
    searched = np.min([error(largest * factor) for factor in np.linspace(0.2, 1.5, 500)], axis=0)
    assert np.all(found <= searched * 1.01)
    assert np.all(found <= error(largest))
    assert found.sum() < 0.95 * error(largest).sum()


def test_a_channel_of_zeros_has_a_scale_and_stays_zero() -> None:
    weight = weights()
    weight[..., 2] = 0
    grid = power_grid("2", 1, 4)
    scale = fit_scale(grid, weight, (0, 1, 2))
    assert np.all(scale > 0)
    assert not on_grid(grid, weight, scale)[..., 2].any()


def test_the_range_grid_is_the_best_of_its_kind() -> None:
    weight = weights()
    largest = np.abs(weight).max(axis=(0, 1, 2), keepdims=True)
    best = np.square(on_grid(best_range_grid(weight, largest, 4), weight, largest) - weight).sum()
    for power in range(11):
        other = on_grid(range_grid(4, 2.0**-power), weight, largest)
        assert best <= np.square(other - weight).sum()
