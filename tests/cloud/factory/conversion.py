"""Keras models as ``.tflite`` files, as the converter leaves them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


def to_tflite(model: Any, quantize: bool) -> bytes:
    """Return the file; with ``quantize`` of weights and activations of eight bits."""
    spec = tf.TensorSpec((1, *model.input.shape[1:]), tf.float32, name="input")
    function = tf.function(lambda x: model(x, training=False), input_signature=[spec])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], model)
    if quantize:

        def samples() -> Iterator[list[NDArray[np.float32]]]:
            draw = np.random.default_rng(5)
            for _ in range(10):
                yield [draw.random(spec.shape, dtype=np.float32)]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
    return bytes(converter.convert())
