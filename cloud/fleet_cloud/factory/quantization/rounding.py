"""Rounding as the integers of a file do it, inside of a network that is trained.

The gradient of a rounding is taken to be 1, and 0 for an activation that lies outside of its range (Jacob
et al., 2018, section 3). Weights never lie outside: their range is their own. For activations TensorFlow's
op is used, for the converter reads ranges from it.
"""

from collections.abc import Sequence
from typing import Any, Final

import keras
import tensorflow as tf

Tensor = Any

Q_MAX: Final = 127
"""Weights have a symmetric narrow range: -127 to 127."""
LEVELS: Final = 256
CODE_MIN: Final = -128
HALF: Final = 0.501
"""What lies half way but for the noise of float32 is rounded like what lies there."""
SMALLEST: Final = 1e-6
"""The smallest width of a range: there is a division by it."""


def weight_steps(kernel: Tensor, channels: Sequence[int]) -> Tensor:
    """Return the step of int8 weights, in a shape that broadcasts to them: one for each index of the axes
    ``channels``, or one for all if there are none."""
    others = [axis for axis in range(len(kernel.shape)) if axis not in channels]
    largest = keras.ops.max(keras.ops.abs(keras.ops.stop_gradient(kernel)), axis=others, keepdims=True)
    return keras.ops.maximum(largest, SMALLEST) / Q_MAX


def round_weights(kernel: Tensor, channels: Sequence[int]) -> Tensor:
    """Return the weights as int8 holds them, with the steps of `weight_steps`."""
    exact, steps = keras.ops.stop_gradient(kernel), weight_steps(kernel, channels)
    rounded = keras.ops.round(exact / steps) * steps
    return kernel + keras.ops.stop_gradient(rounded - exact)


def round_activations(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return activations as asymmetric int8 of the range holds them. No gradient goes to the range."""
    low, high = widen(low, high)
    return tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=8)


def round_averages(x: Tensor, low: Tensor, high: Tensor, half_up: bool) -> Tensor:
    """Return averages of such activations as TFLite holds them, on their scale. Of few values many lie half
    way between two codes: those of a pooling go away from zero (that of the int8 code), those of a bilinear
    enlargement up (``half_up``), as LiteRT computes them."""
    low, high = widen(low, high)
    step = (high - low) / (LEVELS - 1)
    zero = tf.round(-low / step) + CODE_MIN
    code = x / step + zero
    nearest = tf.floor(code + HALF) if half_up else tf.sign(code) * tf.floor(tf.abs(code) + HALF)
    rounded = (tf.clip_by_value(nearest, CODE_MIN, CODE_MIN + LEVELS - 1) - zero) * step
    return x + tf.stop_gradient(rounded - x)


def widen(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends of a range that has a code for 0 and some width, as the file has them."""
    low, high = tf.stop_gradient(tf.minimum(low, 0.0)), tf.stop_gradient(tf.maximum(high, 0.0))
    return low, tf.maximum(high, low + SMALLEST)
