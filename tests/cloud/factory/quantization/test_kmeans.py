"""k-means over numbers: as good as every way to divide them, with fixed centres and at a price."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fleet_cloud.factory.quantization.kmeans import BINS, Clusters, cluster_values, code_lengths, nearest

numbers = st.lists(st.integers(-40, 40), min_size=1, max_size=7)


def cost_of(x: NDArray[np.float64], w: NDArray[np.float64], found: Clusters) -> float:
    return float((w * np.square(x - found.centres[found.indices])).sum())


def least_cost(x: NDArray[np.float64], w: NDArray[np.float64], free: int, fixed: tuple[float, ...]) -> float:
    """Return the cost of the best clustering, among all ways to divide the numbers: a free centre has an
    interval, the others go to the nearest fixed centre."""
    order = np.argsort(x)
    x, w = x[order], w[order]
    to_fixed = np.min([w * np.square(x - c) for c in fixed], axis=0) if fixed else np.full(len(x), np.inf)
    best = np.inf
    for cuts in combinations_with_replacement(range(len(x) + 1), 2 * free):
        cost, covered = 0.0, np.zeros(len(x), bool)
        for begin, end in zip(cuts[::2], cuts[1::2], strict=True):
            if begin < end:
                mean = np.average(x[begin:end], weights=w[begin:end])
                cost += float((w[begin:end] * np.square(x[begin:end] - mean)).sum())
                covered[begin:end] = True
        best = min(best, cost + (float(to_fixed[~covered].sum()) if not covered.all() else 0.0))
    return best


@settings(max_examples=40, deadline=None)
@given(
    numbers, st.integers(1, 2), st.sampled_from([(), (0.0,), (-40.0, 0.0, 40.0)]), st.integers(0, 2**32 - 1)
)
def test_few_numbers_are_clustered_as_well_as_can_be(
    values: list[int], free: int, fixed: tuple[float, ...], seed: int
) -> None:
    x = np.array(values, float)
    w = np.random.default_rng(seed).integers(1, 5, len(x)).astype(float)
    found = cluster_values(x, free + len(fixed), w, fixed)
    assert cost_of(x, w, found) == pytest.approx(least_cost(x, w, free, fixed), rel=1e-9, abs=1e-7)
    assert np.array_equal(found.centres[~found.free], np.array(fixed))


@settings(max_examples=40, deadline=None)
@given(numbers, st.integers(1, 12))
def test_enough_centres_cost_nothing(values: list[int], more: int) -> None:
    x = np.array(values, float)
    found = cluster_values(x, len(set(values)) + more)
    assert np.allclose(found.centres[found.indices], x)


def test_one_centre_is_the_mean_of_weights() -> None:
    found = cluster_values(np.array([0.0, 3.0]), 1, np.array([2.0, 1.0]))
    assert found.centres.tolist() == [1.0]


def test_many_numbers_reach_what_theory_says() -> None:
    """A normal distribution in 4 cells: 0.1175 of its variance is left (Max, 1960)."""
    x = np.random.default_rng(0).normal(size=20_000)
    found = cluster_values(x, 4)
    assert len(x) > BINS
    assert np.square(x - found.centres[found.indices]).mean() == pytest.approx(0.1175, abs=0.002)
    assert np.array_equal(found.indices, nearest(x, found.centres))


def test_fixed_centres_stay_and_take_what_is_nearest() -> None:
    x = np.array([[-1.0, -0.96, 0.0], [0.5, 0.02, 1.0]])
    found = cluster_values(x, 4, fixed=(-1.0, 0.0, 1.0))
    assert found.centres.tolist() == [-1.0, 0.0, 0.5, 1.0]
    assert found.indices.tolist() == [[0, 0, 1], [2, 1, 3]]
    assert found.free.tolist() == [False, False, True, False]


def test_only_fixed_centres() -> None:
    found = cluster_values(np.zeros((2, 2)), 1, fixed=(0.0,))
    assert found.indices.tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="2 of them fixed"):
        cluster_values(np.ones(3), 1, fixed=(0.0, 1.0))


def cost_at_price(x: NDArray[np.float64], found: Clusters, price: float) -> float:
    lengths = code_lengths(found.indices, len(found.centres))
    return float(np.square(x - found.centres[found.indices]).sum() + price * lengths[found.indices].sum())


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.001, 0.01, 0.1, 1.0]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_price_lowers_what_it_counts(seed: int, price: float, zero: bool) -> None:
    x = np.random.default_rng(seed).normal(size=300)
    fixed = (0.0,) if zero else ()
    plain, priced = cluster_values(x, 8, None, fixed), cluster_values(x, 8, None, fixed, price)
    assert cost_at_price(x, priced, price) <= cost_at_price(x, plain, price) * (1 + 1e-9)
    assert not zero or 0.0 in priced.centres


def test_a_higher_price_takes_fewer_bits_and_a_larger_error() -> None:
    x = np.random.default_rng(1).normal(size=5_000)
    found = [cluster_values(x, 16, price=price) for price in (0.0, 0.01, 0.1)]
    bits = [code_lengths(one.indices, len(one.centres))[one.indices].mean() for one in found]
    errors = [np.square(x - one.centres[one.indices]).mean() for one in found]
    assert bits[0] > bits[1] > bits[2]
    assert errors[0] < errors[1] < errors[2]


def test_a_price_beats_fewer_entries_of_the_same_entropy() -> None:
    """At fewer bits the entropy-constrained clusters have the smaller error by far."""
    x = np.random.default_rng(2).laplace(size=20_000)

    def bits_and_error(found: Clusters) -> tuple[float, float]:
        bits = code_lengths(found.indices, len(found.centres))[found.indices].mean()
        return float(bits), float(np.square(x - found.centres[found.indices]).mean())

    plain = bits_and_error(cluster_values(x, 4))
    priced = bits_and_error(cluster_values(x, 32, price=0.3))
    assert priced[0] < plain[0]
    assert priced[1] < 0.7 * plain[1]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_what_is_a_fixed_centre_itself_stays_there_at_any_price(value: float) -> None:
    """Few values are exactly fixed, many are near: another centre would take fewer bits."""
    near = value + 0.05 + 0.001 * np.random.default_rng(3).normal(size=500)
    x = np.concatenate([near, np.full(3, value), np.linspace(-1, 1, 11)])
    found = cluster_values(x, 8, fixed=(0.0, 1.0), price=0.05)
    of_value = found.centres[found.indices[x == value]]
    assert len(of_value) >= 3
    assert np.all(of_value == value)
    assert not found.free[found.indices[x == value]].any()
