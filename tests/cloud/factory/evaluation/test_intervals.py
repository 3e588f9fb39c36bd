"""Intervals against published values, brute force, and what they promise."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_cloud.factory.evaluation.intervals import (
    Z,
    estimate_drop,
    estimate_share,
    estimate_unpaired_drop,
    is_significant,
    tango_score,
)
from fleet_cloud.factory.evaluation.results import Estimate, Interval


def bounds(estimate: Estimate) -> tuple[float, float]:
    assert estimate.interval is not None
    return estimate.interval.low, estimate.interval.high


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_values_of_newcombes_table(right: int, count: int, low: float, high: float) -> None:
    assert bounds(estimate_share(right, count)) == pytest.approx((low, high), abs=6e-5)


@settings(deadline=None)
@given(st.integers(1, 400).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_wilsons_bounds_are_where_the_normal_test_just_does_not_refuse(pair: tuple[int, int]) -> None:
    right, count = pair
    low, high = bounds(estimate_share(right, count))
    assert 0 <= low <= right / count <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            score = (right / count - bound) / math.sqrt(bound * (1 - bound) / count)
            assert abs(score) == pytest.approx(Z, abs=1e-6)


def test_tango_gives_the_published_interval() -> None:
    """Fagerland, Lydersen and Laake, Statistics in Medicine 33, 2014: 1 and 7 of 21 pairs disagree."""
    found = estimate_drop(1, 7, 21)
    assert found.value == pytest.approx(-6 / 21)
    assert bounds(found) == pytest.approx((-0.517, -0.026), abs=5e-4)


def test_without_a_change_the_interval_is_not_a_point() -> None:
    low, high = bounds(estimate_drop(0, 0, 100))
    assert (low, high) == pytest.approx((-Z * Z / (100 + Z * Z), Z * Z / (100 + Z * Z)))


@settings(deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))))
def test_a_drop_turned_round_has_the_interval_turned_round(counts: tuple[int, int, int]) -> None:
    lost, won, count = counts
    won = min(won, count - lost)
    low, high = bounds(estimate_drop(lost, won, count))
    other_low, other_high = bounds(estimate_drop(won, lost, count))
    assert (low, high) == pytest.approx((-other_high, -other_low), abs=1e-9)
    assert -1 <= low <= (lost - won) / count <= high <= 1


@pytest.mark.parametrize(("lost", "won", "count"), [(9, 4, 60), (3, 12, 40), (1, 0, 25)])
def test_tangos_score_holds_the_most_likely_share_under_the_hypothesis(
    lost: int, won: int, count: int
) -> None:
    """The likelihood is looked at on a fine grid instead."""
    shares = np.linspace(0, 1, 400_001)[1:-1]
    for delta in (-0.2, -0.05, 0.0, 0.1):
        p = shares[(shares + delta > 0) & (2 * shares + delta < 1)]
        rest = count - lost - won
        likelihood = won * np.log(p) + lost * np.log(p + delta) + rest * np.log(1 - 2 * p - delta)
        best = float(p[likelihood.argmax()])
        variance = count * (2 * best + delta - delta * delta)
        wanted = (lost - won - count * delta) / math.sqrt(variance)
        assert tango_score(lost, won, count, delta) == pytest.approx(wanted, abs=2e-3)


def test_the_paired_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """All outcomes of 40 pairs, weighed by their probability."""
    count, lost_share, won_share = 40, 0.10, 0.04
    covered = total = 0.0
    for lost, won in product(range(count + 1), repeat=2):
        if lost + won > count:
            continue
        rest = count - lost - won
        ways = math.comb(count, lost) * math.comb(count - lost, won)
        probability = ways * lost_share**lost * won_share**won * (1 - lost_share - won_share) ** rest
        if probability < 1e-9:
            continue
        low, high = bounds(estimate_drop(lost, won, count))
        covered += probability * (low <= lost_share - won_share <= high)
        total += probability
    assert total == pytest.approx(1, abs=1e-5)
    assert 0.93 <= covered <= 0.975


def test_unpaired_differences_give_newcombes_value() -> None:
    """56 of 70 against 48 of 80: 0.2000, 0.0524 to 0.3339 (Newcombe 1998, example a, method 10)."""
    found = estimate_unpaired_drop(estimate_share(56, 70), estimate_share(48, 80))
    assert found.value == pytest.approx(0.2)
    assert bounds(found) == pytest.approx((0.0524, 0.3339), abs=6e-5)


def test_what_is_significant_leaves_zero_out() -> None:
    def between(low: float, high: float) -> Estimate:
        return Estimate(value=(low + high) / 2, interval=Interval(low=low, high=high))

    assert is_significant(between(0.001, 0.1))
    assert is_significant(between(-0.1, -0.001))
    assert not is_significant(between(0.0, 0.1))
    assert not is_significant(between(-0.1, 0.1))
    assert not is_significant(Estimate(value=0.5))


@pytest.mark.parametrize(("right", "count"), [(2, 1), (-1, 3), (0, 0)])
def test_what_is_no_share_is_refused(right: int, count: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        estimate_share(right, count)
    with pytest.raises(ValueError, match="do not fit"):
        estimate_drop(right, 0, count)
