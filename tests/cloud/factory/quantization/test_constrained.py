"""Weights on levels and in codebooks: what they are exactly, how gradients reach what is trained, what
remains true after training."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.factory.constraints import CONSTRAINTS, Constraint, Parts
from fleet_cloud.factory.network import weight_of
from fleet_cloud.factory.quantization.changing import ChangingCodebook
from fleet_cloud.factory.quantization.codebooks import Codebook, ScaledCodebook
from fleet_cloud.factory.quantization.levels import Levels
from fleet_cloud.factory.quantization.powers import fit_scale, power_grid

Array = NDArray[Any]


def weight(shape: tuple[int, ...] = (3, 3, 4, 5)) -> Array:
    random = np.random.default_rng(0)
    return (random.normal(size=shape) * (random.random(shape) > 0.4)).astype(np.float32)


def levels_of(w: Array) -> Levels:
    grid = power_grid("sqrt2", 1, 4)
    scale = fit_scale(grid, w, tuple(range(w.ndim - 1)))
    return Levels(w, scale, grid.levels, grid.borders, (w != 0).astype(np.float32))


def codebook_of(w: Array, group: int) -> Codebook:
    """Random entries, the first of which stays zero; groups in the order of outputs before inputs."""
    random = np.random.default_rng(1)
    entries = random.normal(size=(6, group)).astype(np.float32)
    entries[0] = 0
    free = np.array([[0], [1], [1], [1], [1], [1]], np.float32)
    order = (w.ndim - 1, *range(w.ndim - 1))
    count = -(-w.size // group)
    indices = random.integers(0, 6, count).astype(np.int32)
    return Codebook(entries, free, indices, (w != 0).astype(np.float32), order)


def scaled_of(w: Array) -> ScaledCodebook:
    random = np.random.default_rng(2)
    codes = np.array([-127, -60, -3, 0, 40, 127])
    free = np.array([0, 1, 1, 0, 1, 0], np.float32)
    scales = random.uniform(0.1, 2, (1, 1, 1, w.shape[-1])).astype(np.float32)
    indices = np.where(w == 0, 3, random.integers(0, 6, w.shape)).astype(np.int32)
    return ScaledCodebook((codes / 127).astype(np.float32), scales, free, indices)


def gradients(constraint: Constraint, upstream: Array) -> tuple[Array, ...]:
    """Return the gradient of sum(upstream x weight) in what is trained."""
    parts = constraint.split()
    trained = [tf.Variable(one) for one in parts.trained]
    held = [tf.constant(one) for one in parts.held]
    with tf.GradientTape() as tape:
        total = keras.ops.sum(constraint.compose([one.value() for one in trained], held) * upstream)
    return tuple(np.asarray(tf.convert_to_tensor(one)) for one in tape.gradient(total, trained))


def trained_on(constraint: Constraint, seed: int = 3) -> Constraint:
    """As after training: what is trained has moved, in every number."""
    parts = constraint.split()
    random = np.random.default_rng(seed)
    moved = tuple((one + random.normal(0, 0.3, one.shape)).astype(np.float32) for one in parts.trained)
    return constraint.settle(Parts(moved, parts.held))


def test_levels_are_exactly_scale_times_level() -> None:
    w = weight()
    levels = trained_on(levels_of(w))
    assert isinstance(levels, Levels)
    ratio = weight_of(levels) / levels.scales
    nearest = levels.levels[np.abs(ratio[..., np.newaxis] - levels.levels).argmin(axis=-1)]
    assert np.array_equal(weight_of(levels), nearest * levels.scales)
    assert np.array_equal(weight_of(levels), levels.levels[levels.indices] * levels.scales)
    assert np.all(weight_of(levels)[w == 0] == 0)
    for channel in range(w.shape[-1]):
        assert len(np.unique(weight_of(levels)[..., channel])) <= len(levels.levels)


def test_the_gradient_goes_straight_to_the_latent_weight_and_to_the_scale() -> None:
    w = weight()
    levels = levels_of(w)
    upstream = np.random.default_rng(4).normal(size=w.shape).astype(np.float32)
    latent, scale = gradients(levels, upstream)
    level = levels.levels[levels.indices]
    assert np.allclose(latent, upstream * levels.mask, atol=1e-6)
    expected = upstream * levels.mask * (level - w / levels.scales)
    assert np.allclose(scale, expected.sum(axis=(0, 1, 2), keepdims=True), atol=1e-4)


def test_levels_that_are_scaled_stay_levels() -> None:
    levels = levels_of(weight())
    factor = np.array([0.5, 2, 3, -1, 7], np.float32)
    assert np.allclose(weight_of(levels.scale(factor)), weight_of(levels) * factor, rtol=1e-6)


def changing_of(w: Array, toll: float) -> ChangingCodebook:
    """Zeros have the entry 0, and the first weight of each channel the last entry, for good."""
    scaled = scaled_of(w)
    pinned = np.where(w == 0, 3, -1)
    pinned[0, 0, 0] = np.where(w[0, 0, 0] == 0, 3, 5)
    lengths = np.array([2, 4, 3, 0.5, 3, 2], np.float32)
    tolls = np.full((1, 1, 1, w.shape[-1], 1), toll, np.float32) * lengths
    return ChangingCodebook(w, scaled.entries, scaled.scales, scaled.free, tolls, pinned.astype(np.int32))


def on_grid_of_int8(entries: Array) -> Array:
    return np.asarray((np.round(entries * 127) / 127).astype(np.float32))


def cheapest_of(book: ChangingCodebook) -> Array:
    ratio = (book.latent / book.scales)[..., np.newaxis]
    cost = np.square(ratio - on_grid_of_int8(book.entries)) + book.tolls
    return np.where(book.pinned < 0, cost.argmin(axis=-1), book.pinned)


@pytest.mark.parametrize("toll", [0.0, 0.05])
def test_a_changing_codebook_takes_the_cheapest_entry(toll: float) -> None:
    w = weight()
    book = trained_on(changing_of(w, toll))
    assert isinstance(book, ChangingCodebook)
    expected = cheapest_of(book)
    assert np.array_equal(weight_of(book), on_grid_of_int8(book.entries)[expected] * book.scales)
    assert not weight_of(changing_of(w, toll))[w == 0].any()
    frozen = book.freeze()
    assert np.array_equal(weight_of(frozen), weight_of(book))
    assert len(frozen.entries) == len(np.unique(expected))


def test_a_toll_sends_more_weights_to_the_entry_with_few_bits() -> None:
    w = weight() + np.float32(0.001)
    counts = [int((weight_of(changing_of(w, toll)) == 0).sum()) for toll in (0.0, 0.02)]
    assert counts[1] > counts[0] > 0


def test_gradients_of_a_changing_codebook() -> None:
    book = changing_of(weight(), 0.01)
    upstream = np.random.default_rng(4).normal(size=book.latent.shape).astype(np.float32)
    latent, entries, _ = gradients(book, upstream)
    assert np.allclose(latent, np.where(book.pinned < 0, upstream, 0), atol=1e-6)
    indices = cheapest_of(book)
    shared = [(upstream * book.scales)[indices == row].sum() for row in range(6)]
    assert np.allclose(entries, np.array(shared) * book.free, atol=1e-4)


@pytest.mark.parametrize("group", [1, 4, 7])
def test_gradients_of_shared_weights_add_up(group: int) -> None:
    w = weight()
    book = codebook_of(w, group)
    upstream = np.random.default_rng(4).normal(size=w.shape).astype(np.float32)
    (found,) = gradients(book, upstream)
    flat = (upstream * book.mask).transpose(book.order).ravel()
    padded = np.pad(flat, (0, -len(flat) % group)).reshape(-1, group)
    expected = np.stack([padded[book.indices == row].sum(axis=0) for row in range(6)]) * book.free
    assert np.allclose(found, expected, atol=1e-5)
    assert not found[0].any()


@pytest.mark.parametrize("group", [1, 4, 7])
def test_a_codebook_gives_groups_in_the_order_of_the_file(group: int) -> None:
    w = weight()
    book = trained_on(codebook_of(w, group))
    assert isinstance(book, Codebook)
    flat = weight_of(book).transpose(3, 0, 1, 2).ravel()
    kept = book.mask.transpose(3, 0, 1, 2).ravel() > 0
    assert np.array_equal(flat[kept], book.entries[book.indices].ravel()[: len(flat)][kept])
    assert np.all(weight_of(book)[w == 0] == 0)


def test_what_is_not_free_does_not_move() -> None:
    def step(constraint: Constraint) -> Array:
        moved = gradients(constraint, np.ones(weight().shape, np.float32))[0]
        return np.asarray(constraint.split().trained[0] - 0.1 * moved)

    assert np.array_equal(step(codebook_of(weight(), 1))[0], [0])
    fixed = scaled_of(weight())
    assert np.array_equal(step(fixed)[fixed.free == 0], fixed.entries[fixed.free == 0])


def test_a_scaled_codebook_is_on_the_grid_of_int8() -> None:
    before = scaled_of(weight())
    parts = before.split()
    entries = parts.trained[0] + before.free * np.float32(0.0123)
    book = before.settle(Parts((entries, parts.trained[1] * np.float32(1.7)), parts.held))
    w = weight_of(book)
    codes = np.round(entries * 127) / np.float32(127)
    assert np.array_equal(w, codes[book.indices].astype(np.float32) * book.scales)
    largest = np.abs(w).max(axis=(0, 1, 2), keepdims=True)
    assert np.array_equal(largest, book.scales)
    assert np.array_equal(np.unique(np.round(w / (largest / 127))), np.round(entries * 127))
    assert np.all(w[weight() == 0] == 0)


def test_gradients_of_a_scaled_codebook() -> None:
    book = scaled_of(weight())
    upstream = np.random.default_rng(4).normal(size=book.indices.shape).astype(np.float32)
    entries, scales = gradients(book, upstream)
    shared = np.array([(upstream * book.scales)[book.indices == row].sum() for row in range(6)])
    assert np.allclose(entries, shared * book.free, atol=1e-4)
    expected = (upstream * book.entries[book.indices]).sum(axis=(0, 1, 2), keepdims=True)
    assert np.allclose(scales, expected, atol=1e-4)


def test_the_cache_knows_them_by_name() -> None:
    assert CONSTRAINTS["changing-codebook"] is ChangingCodebook
    assert CONSTRAINTS["levels"] is Levels
    assert CONSTRAINTS["codebook"] is Codebook
    assert CONSTRAINTS["scaled-codebook"] is ScaledCodebook
