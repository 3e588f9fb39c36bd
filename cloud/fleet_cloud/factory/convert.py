"""From Keras to TFLite: fp32, and fully integer int8. Inputs get a fixed batch of one."""

import tempfile
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError

CALIBRATION_SAMPLES: Final = 300


def convert(model: Any, quantize: str, calibration: NDArray[np.float32]) -> bytes:
    """Return the model as a ``.tflite`` file. ``calibration``: real-valued inputs of the training
    split, from which the ranges of activations are taken."""
    signature = [tf.TensorSpec((1, *model.input.shape[1:]), tf.float32, name="input")]
    with tempfile.TemporaryDirectory(prefix="fleet-convert-") as folder:
        model.export(folder, format="tf_saved_model", input_signature=signature, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize == "int8":
            _ask_for_int8(converter, calibration)
        try:
            return bytes(converter.convert())
        except Exception as exc:
            raise BuildError(
                f"the conversion to {quantize} failed: {exc}",
                hint="the converter does not know an operation of this architecture",
                code="build.convert",
            ) from exc


def _ask_for_int8(converter: Any, calibration: NDArray[np.float32]) -> None:
    def samples() -> Iterator[list[NDArray[np.float32]]]:
        for sample in calibration[:CALIBRATION_SAMPLES]:
            yield [sample[np.newaxis]]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
