"""Keras models as ``.tflite`` files, as the converter leaves them."""

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


def to_tflite(model: Any, quantize: bool) -> bytes:
    """Return the file; with ``quantize`` of weights and activations of eight bits."""
    shape = (1, *model.input.shape[1:])
    with tempfile.TemporaryDirectory() as folder:
        signature = [tf.TensorSpec(shape, tf.float32, name="input")]
        model.export(folder, format="tf_saved_model", input_signature=signature, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize:

            def samples() -> Iterator[list[NDArray[np.float32]]]:
                draw = np.random.default_rng(5)
                for _ in range(10):
                    yield [draw.random(shape, dtype=np.float32)]

            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = samples
        return bytes(converter.convert())
