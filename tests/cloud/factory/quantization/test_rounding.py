"""Rounding inside of a network: its values against NumPy, and its gradient."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.factory.network import array_of
from fleet_cloud.factory.quantization.affine import fit_range, fit_weights
from fleet_cloud.factory.quantization.layers import MOMENTUM, Rounding
from fleet_cloud.factory.quantization.rounding import round_activations, round_weights

Array = NDArray[Any]


@pytest.mark.parametrize("channels", [(), (3,), (2, 3), (2,)])
def test_weights_are_what_int8_holds(channels: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(1).normal(size=(3, 3, 4, 5)).astype(np.float32)
    kernel[..., 1, 2] = 0.0
    scheme = fit_weights(kernel, channels)
    rounded = array_of(round_weights(tf.constant(kernel), channels))
    np.testing.assert_allclose(rounded, scheme.dequantize(scheme.quantize(kernel)), atol=1e-6)
    again = array_of(round_weights(tf.constant(rounded), channels))
    np.testing.assert_allclose(again, rounded, atol=1e-7, err_msg="rounded weights stay")


def test_the_gradient_of_weights_goes_straight_through_the_largest_too() -> None:
    kernel = tf.constant(np.random.default_rng(2).normal(size=(7, 5)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        loss = tf.reduce_sum(3.0 * round_weights(kernel, (1,)))
    assert array_of(tape.gradient(loss, kernel)).tolist() == np.full((7, 5), 3.0).tolist()


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.2), (0.0, 6.0), (-0.3, 2.0), (-5.0, 0.0)])
def test_activations_are_what_int8_holds(low: float, high: float) -> None:
    scheme = fit_range(low, high)
    x = np.random.default_rng(3).uniform(low - 1, high + 1, 500).astype(np.float32)
    rounded = array_of(round_activations(tf.constant(x), low, high))
    wanted = scheme.dequantize(scheme.quantize(x))
    steps = np.abs(rounded - wanted) / float(scheme.scale)
    assert steps.max() < 1.01, "halves may go the other way"
    assert (steps < 0.01).mean() > 0.98


def test_the_gradient_of_an_activation_is_one_inside_and_zero_outside() -> None:
    x = tf.constant([-1.3, -1.01, -0.99, -0.4, 0.0, 0.5, 0.98, 1.02, 7.0])
    low, high = tf.constant(-1.0), tf.constant(1.0)
    with tf.GradientTape() as tape:
        tape.watch([x, low, high])
        loss = tf.reduce_sum(round_activations(x, low, high))
    got = tape.gradient(loss, [x, low, high])
    assert array_of(got[0]).tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert got[1:] == [None, None], "ranges follow the values, not the loss"


def test_a_range_of_nothing_gives_zeros() -> None:
    assert array_of(round_activations(tf.zeros(4), 0.0, 0.0)).tolist() == [0, 0, 0, 0]


def test_ranges_move_with_what_training_sees_and_stay_in_inference() -> None:
    layer = Rounding()
    layer.build((2,))
    layer.low.assign(-1.0)
    layer.high.assign(1.0)
    x = np.array([[-3.0, 5.0]], np.float32)
    layer(x, training=False)
    assert (float(layer.low), float(layer.high)) == (-1.0, 1.0)
    layer(x, training=True)
    share = 1 - MOMENTUM
    assert float(layer.low) == pytest.approx(-1.0 - 2.0 * share)
    assert float(layer.high) == pytest.approx(1.0 + 4.0 * share)


def test_a_prescribed_range_does_not_move() -> None:
    layer = Rounding(fixed=(0.0, 255 / 256))
    layer(np.array([[-3.0, 5.0]], np.float32), training=True)
    assert (float(layer.low), float(layer.high)) == (0.0, 255 / 256)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.fixed == layer.fixed
