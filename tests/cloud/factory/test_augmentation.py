"""Augmentation: where pixels go, what values become, and that all of it hangs on the seed alone."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.augmentation import (
    Augmentation,
    Movement,
    Range,
    make_augmentation,
    make_transforms,
)
from fleet_cloud.factory.recipe import Augment
from fleet_shared.manifest import ImageRules, Preprocessing

Array = NDArray[Any]
UNIT = Range(np.zeros(1, np.float32), np.ones(1, np.float32))


def images(count: int = 6, size: tuple[int, int] = (5, 7)) -> Array:
    return np.random.default_rng(3).uniform(size=(count, *size, 1)).astype(np.float32)


def change(how: Augment, x: Array, seed: int = 1) -> Array:
    return np.asarray(Augmentation(how, UNIT, seed)(keras.ops.convert_to_tensor(x), training=True))


def shift(x: Array, rows: int, columns: int) -> Array:
    """Move an image's content; the edge is repeated."""
    height, width = x.shape[:2]
    return x[np.clip(np.arange(height) + rows, 0, height - 1)][
        :, np.clip(np.arange(width) + columns, 0, width - 1)
    ]


def test_mirrored_images_are_mirrored_exactly_and_about_half_of_them() -> None:
    x = images(64)
    changed = change(Augment(flip="horizontal"), x)
    mirrored = [np.allclose(new, old[:, ::-1], atol=1e-6) for new, old in zip(changed, x, strict=True)]
    same = [np.allclose(new, old, atol=1e-6) for new, old in zip(changed, x, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 20 <= sum(mirrored) <= 44


def test_both_mirrors_are_drawn_apart() -> None:
    x = images(64)
    changed = change(Augment(flip="both"), x)
    ways = [(1, 1), (-1, 1), (1, -1), (-1, -1)]
    counts = [
        sum(np.allclose(new, old[::rows, ::columns], atol=1e-6) for new, old in zip(changed, x, strict=True))
        for rows, columns in ways
    ]
    assert sum(counts) == 64
    assert min(counts) >= 6


def test_crop_padding_moves_by_whole_pixels_and_repeats_the_edge() -> None:
    x = images(40)
    places = [(rows, columns) for rows in range(-2, 3) for columns in range(-2, 3)]
    seen = set()
    for new, old in zip(change(Augment(crop_padding=2), x), x, strict=True):
        fits = [place for place in places if np.allclose(new, shift(old, *place), atol=1e-5)]
        assert fits
        seen.add(fits[0])
    assert len(seen) > 10
    assert {abs(row) for row, _ in seen} == {0, 1, 2}


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-3, 3), st.floats(0.5, 2), st.sampled_from([-1, 1]), st.sampled_from([-1, 1]), st.floats(-2, 2),
    st.floats(-2, 2),
)  # fmt: skip
def test_the_middle_moves_by_the_shift_and_lengths_by_the_zoom(
    angle: float, zoom: float, across: int, along: int, down: float, right: float
) -> None:
    found = transform(angle=angle, zoom=zoom, mirror=(across, along), down=down, right=right, size=(6, 9))
    matrix, offset, middle = found[[[0, 1], [3, 4]]], found[[2, 5]], np.array([4.0, 2.5])
    np.testing.assert_allclose(matrix @ middle + offset - middle, [right, down], atol=1e-4)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(2) / zoom**2, atol=1e-4)
    assert np.linalg.det(matrix) * across * along > 0
    assert found[6:].tolist() == [0, 0]


def transform(
    size: tuple[int, int],
    angle: float = 0.0,
    zoom: float = 1.0,
    mirror: tuple[int, int] = (1, 1),
    down: float = 0.0,
    right: float = 0.0,
) -> Array:
    one = [np.array([value], np.float32) for value in (angle, zoom, *mirror, down, right)]
    movement = Movement(angle=one[0], zoom=one[1], mirror=(one[2], one[3]), down=one[4], right=one[5])
    (found,) = np.asarray(make_transforms(movement, size), dtype=np.float64)
    return np.asarray(found)


def test_a_quarter_turn_turns_the_image_and_a_zoom_shows_its_middle() -> None:
    x = images(1, (5, 5))
    turned = keras.ops.image.affine_transform(
        x, transform((5, 5), angle=np.pi / 2)[np.newaxis].astype(np.float32), fill_mode="nearest"
    )
    np.testing.assert_allclose(np.asarray(turned)[0], np.rot90(x[0]), atol=1e-5)
    nearer = keras.ops.image.affine_transform(
        x, transform((5, 5), zoom=2.0)[np.newaxis].astype(np.float32), fill_mode="nearest"
    )
    np.testing.assert_allclose(np.asarray(nearer)[0, ::2, ::2], x[0, 1:4, 1:4], atol=1e-5)


def test_every_movement_is_drawn_within_its_limits() -> None:
    x = np.broadcast_to(np.arange(16, dtype=np.float32)[:, np.newaxis, np.newaxis], (200, 16, 16, 1)) / 15
    moved = change(Augment(shift=0.25), x)[:, 8, 8, 0] * 15 - 8
    assert 3.5 < np.abs(moved).max() <= 4 + 1e-4
    slopes = (change(Augment(zoom=0.5), x)[:, 9, 8, 0] - change(Augment(zoom=0.5), x)[:, 7, 8, 0]) * 7.5
    assert 1 / 1.5 - 1e-4 <= slopes.min() < 0.75
    assert 1.4 < slopes.max() <= 1.5 + 1e-4
    turns = change(Augment(rotate_degrees=30), x)
    across = (turns[:, 8, 9, 0] - turns[:, 8, 7, 0]) * 7.5
    assert 0.45 < np.abs(across).max() <= 0.5 + 1e-4


def test_brightness_contrast_and_noise_stay_within_their_shares_and_the_range() -> None:
    x = np.clip(images(32), 0.3, 0.7)
    brighter = change(Augment(brightness=0.2), x) - x
    assert np.ptp(brighter, axis=(1, 2, 3)).max() < 1e-6
    assert 0.1 < np.abs(brighter).max() <= 0.2 + 1e-6
    steeper = change(Augment(contrast=0.5), x)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    factors = (steeper - mean) / (x - mean)
    np.testing.assert_allclose(factors.min(axis=(1, 2, 3)), factors.max(axis=(1, 2, 3)), atol=1e-3)
    assert 0.5 - 1e-3 <= factors.min() < 0.8
    assert 1.2 < factors.max() <= 1.5 + 1e-3
    noisy = change(Augment(noise=0.05), x) - x
    assert noisy.std() == pytest.approx(0.05, rel=0.1)
    wild = change(Augment(brightness=1.0, noise=1.0), images(8))
    assert (wild.min(), wild.max()) == (0.0, 1.0)


def test_the_seed_decides_and_each_call_draws_anew() -> None:
    x, how = images(), Augment(flip="both", shift=0.2, noise=0.1)
    augment = Augmentation(how, UNIT, seed=1)
    first, second = (np.asarray(augment(x, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(change(how, x), first)
    assert not np.array_equal(change(how, x, seed=2), first)
    np.testing.assert_array_equal(np.asarray(augment(x, training=False)), x)


def test_in_a_compiled_step_each_call_draws_anew_for_any_number_of_images() -> None:
    augment = Augmentation(Augment(flip="both", zoom=0.2, contrast=0.1), UNIT, seed=1)
    step = tf.function(
        lambda x: augment(x, training=True), input_signature=[tf.TensorSpec((None, 5, 7, 1), tf.float32)]
    )
    first, second, fewer = step(images()), step(images()), step(images(2))
    assert not np.array_equal(first, second)
    assert fewer.shape == (2, 5, 7, 1)
    np.testing.assert_allclose(
        change(Augment(flip="both", zoom=0.2, contrast=0.1), images()), first, atol=1e-5
    )
    assert [one.path.endswith("seed_generator_state") for one in augment.variables] == [True]


def test_the_range_is_that_of_the_data_in_real_values() -> None:
    raw = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    rules = ImageRules(mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    preprocessing = Preprocessing(colour="rgb", scale=1 / 95, image=rules)
    augment = make_augmentation(Augment(brightness=1.0), raw, preprocessing, seed=1)
    assert augment is not None
    np.testing.assert_allclose(augment._values.low, [-1, -0.25, 0])
    np.testing.assert_allclose(augment._values.high, [1, 0.75, 0.5], atol=1e-6)


def test_nothing_asked_for_is_nothing_and_features_are_refused() -> None:
    assert make_augmentation(None, images(), Preprocessing(), 1) is None
    assert make_augmentation(Augment(), np.zeros((3, 2)), Preprocessing(), 1) is None
    with pytest.raises(RecipeError, match="is for images") as caught:
        make_augmentation(Augment(noise=0.1), np.zeros((3, 2)), Preprocessing(), 1)
    assert caught.value.code == "recipe.augment"
