"""Which weights go, against plain loops over them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fleet_cloud.factory.pruning.patterns import Pattern, adapt, choose, find_units

Kernel = NDArray[np.float32]


def kernel(*shape: int, seed: int = 1) -> Kernel:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def masked(weight: Kernel, share: float, pattern: Pattern = "single", block: int = 4) -> NDArray[np.bool_]:
    (kept,) = choose([find_units(weight, np.ones_like(weight), pattern, block)], share)
    return kept


@pytest.mark.parametrize("shape", [(3, 3, 4, 6), (3, 4, 6), (10, 7)])
def test_the_smallest_magnitudes_go_and_exactly_so_many(shape: tuple[int, ...]) -> None:
    weight = kernel(*shape)
    kept = masked(weight, 0.4)
    count = round(0.4 * weight.size)
    assert np.sum(~kept) == count
    assert np.abs(weight[~kept]).max() < np.abs(weight[kept]).min()


def adapted_by_hand(weight: Kernel) -> NDArray[np.float64]:
    """The score of Lee et al. (2021), equation 1, weight by weight."""
    squares = np.square(np.abs(weight).astype(np.float64))
    return np.array([one / squares[squares >= one].sum() for one in squares.ravel()])


def test_kernels_are_compared_by_what_a_weight_costs_its_kernel() -> None:
    small, large = kernel(3, 3, 2, 4), 100 * kernel(3, 3, 8, 4, seed=2)
    units = [adapt(find_units(one, np.ones_like(one), "single", 1)) for one in (small, large)]
    for unit, weight in zip(units, (small, large), strict=True):
        np.testing.assert_allclose(unit.scores, adapted_by_hand(weight), rtol=1e-9)
    kept = choose(units, 0.5)
    together = np.concatenate([adapted_by_hand(small), adapted_by_hand(large)])
    border = np.sort(together)[round(0.5 * len(together))]
    expected = [adapted_by_hand(one).reshape(one.shape) >= border for one in (small, large)]
    for one, wanted in zip(kept, expected, strict=True):
        np.testing.assert_array_equal(one, wanted)
    assert 0.2 < kept[0].mean() < 1, "the kernel of small weights is no victim of the other's"


def test_what_is_gone_or_safe_is_so_for_any_comparison() -> None:
    weight = kernel(8, 4)
    mask = np.ones_like(weight)
    mask[0] = 0
    plain, adapted = (how(find_units(weight, mask, "2:4", 1)).scores for how in (lambda one: one, adapt))
    for special in (-1.0, np.inf):
        np.testing.assert_array_equal(plain == special, adapted == special)


def test_of_equal_magnitudes_the_first_go() -> None:
    weight = np.array([[1, -1, 1, -1]], np.float32)
    assert masked(weight, 0.5).tolist() == [[False, False, True, True]]


def test_half_a_weight_is_rounded_down() -> None:
    assert np.sum(~masked(kernel(1, 5), 0.5)) == 2


def test_what_is_gone_stays_gone_however_large_it_was() -> None:
    weight, mask = np.array([[9, 1, 2, 3]], np.float32), np.array([[0, 1, 1, 1]], np.float32)
    (kept,) = choose([find_units(weight, mask, "single", 1)], 0.5)
    assert kept.tolist() == [[False, False, True, True]]
    (kept,) = choose([find_units(weight, mask, "single", 1)], 0.1)
    assert kept.tolist() == [[False, True, True, True]], "also when a smaller share is asked for"


def test_together_layers_give_what_is_smallest_in_all() -> None:
    small, large = kernel(4, 5) / 100, kernel(4, 5, seed=2)
    kept = choose([find_units(one, np.ones_like(one), "single", 1) for one in (small, large)], 0.5)
    everything = np.concatenate([np.abs(small).ravel(), np.abs(large).ravel()])
    border = np.sort(everything)[20]
    assert [one.tolist() for one in kept] == [(np.abs(w) >= border).tolist() for w in (small, large)]


@pytest.mark.parametrize("shape", [(3, 3, 8, 5), (12, 7), (3, 3, 3, 4), (6, 2)])
def test_two_of_four_inputs_remain(shape: tuple[int, ...]) -> None:
    """The pattern as it is defined: for each output and place, inputs in fours, the largest two stay."""
    weight = kernel(*shape)
    kept = masked(weight, 1, "2:4")
    for place in np.ndindex(*shape[:-2]):
        for output in range(shape[-1]):
            for begin in range(0, shape[-2], 4):
                four = np.abs(weight[place][begin : begin + 4, output])
                expected = np.isin(np.arange(len(four)), np.argsort(four)[-2:])
                assert kept[place][begin : begin + 4, output].tolist() == expected.tolist()


@settings(deadline=None)  # of a busy machine
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.floats(0.01, 1), st.floats(0.1, 0.9))
def test_the_pattern_holds_along_its_way_and_over_what_was_pruned(
    seed: int, inputs: int, share: float, before: float
) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(inputs, 3)).astype(np.float32)
    mask = (random.random(weight.shape) > before).astype(np.float32)
    for target in (share, 1):
        (kept,) = choose([find_units(weight, mask, "2:4", 1)], target)
        assert not np.any(kept & (mask == 0))
        mask *= kept
    fours = np.pad(mask, ((0, -inputs % 4), (0, 0))).reshape(-1, 4, 3)
    assert np.all(fours.sum(axis=1) <= 2)


@pytest.mark.parametrize(("outputs", "block"), [(8, 4), (10, 4), (3, 4), (6, 2)])
def test_blocks_lie_along_the_outputs_and_go_by_their_mean(outputs: int, block: int) -> None:
    weight = kernel(5, outputs)
    kept = masked(weight, 0.5, "block", block)
    blocks = [
        (row, slice(begin, min(outputs, begin + block)))
        for row in range(5)
        for begin in range(0, outputs, block)
    ]
    means = [np.abs(weight[where]).mean() for where in blocks]
    for where in blocks:
        assert len(set(kept[where].tolist())) == 1
    gone = [mean for where, mean in zip(blocks, means, strict=True) if not kept[where].any()]
    stay = [mean for where, mean in zip(blocks, means, strict=True) if kept[where].any()]
    assert max(gone) < min(stay)
    assert abs(np.sum(~kept) - weight.size / 2) <= block / 2
