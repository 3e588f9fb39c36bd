"""The benchmark's statistics against cases computed by hand, and against drawing image by image."""

import numpy as np
import pytest

from tests.bench.compress.statistics import average_seeds, compare, top1


def test_two_images_by_hand() -> None:
    """Of the differences 0 and 1, four draws are as likely: (0, 0), (0, 1), (1, 0), (1, 1). The means 0, 1/2
    and 1 have 1/4, 1/2 and 1/4; 2.5 % lie below 0 and above 1 only."""
    found = compare(np.array([True, True]), np.array([True, False]))
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_six_images_by_hand() -> None:
    """Of five differences 0 and one 1, the mean k/6 has the probability of k hits of 1/6 in six draws: 0.335,
    0.402, 0.201, 0.054, 0.008, ... Summed up 0.938 at 2/6 and 0.991 at 3/6: the upper end is 3/6."""
    found = compare(np.array([1, 1, 1, 1, 1, 1]), np.array([0, 1, 1, 1, 1, 1]))
    assert found.mean == pytest.approx(1 / 6)
    assert found.low == 0.0
    assert found.high == pytest.approx(3 / 6)


def test_it_is_what_drawing_image_by_image_gives() -> None:
    random = np.random.default_rng(5)
    first, second = random.random(400) < 0.8, random.random(400) < 0.7
    differences = first.astype(float) - second
    means = np.sort(differences[random.integers(0, 400, (4000, 400))].mean(axis=1))
    found = compare(first, second)
    assert found.mean == pytest.approx(differences.mean())
    assert found.low == pytest.approx(means[100], abs=0.008)
    assert found.high == pytest.approx(means[3900], abs=0.008)


def test_pairs_that_always_agree_leave_nothing_open_and_the_seed_repeats() -> None:
    answers = np.random.default_rng(1).random(50) < 0.5
    same = compare(answers, answers)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    other = np.roll(answers, 1)
    assert compare(answers, other, seed=3) == compare(answers, other, seed=3)
    turned = compare(other, answers, seed=3)
    assert turned.mean == pytest.approx(-compare(answers, other).mean)


def test_seeds_are_averaged_image_by_image() -> None:
    mean = average_seeds([np.array([True, False, True]), np.array([True, True, False])])
    np.testing.assert_array_equal(mean, [1, 0.5, 0.5])
    assert top1(mean) == pytest.approx(2 / 3)
    found = compare(mean, np.zeros(3))
    assert 0.5 <= found.low <= found.mean <= found.high <= 1


def test_answers_to_different_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2 answers"):
        compare(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="0 and 0 answers"):
        compare(np.ones(0), np.ones(0))
