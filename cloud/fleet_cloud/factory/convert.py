"""From Keras to TFLite: fp32, and fully integer int8."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from fleet_cloud.errors import BuildError

CALIBRATION_SAMPLES = 300


def convert(model: Any, quantize: str, calibration: np.ndarray[Any, Any]) -> bytes:
    """Return the model as a ``.tflite`` file. ``calibration``: real-valued inputs of the training
    split, from which the ranges of activations are taken."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        model.export(folder, format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize == "int8":
            _ask_for_int8(converter, calibration)
        try:
            return bytes(converter.convert())
        except Exception as exc:
            raise BuildError(f"the conversion to {quantize} failed: {exc}", code="build.convert") from exc


def _ask_for_int8(converter: Any, calibration: np.ndarray[Any, Any]) -> None:
    def samples() -> Iterator[list[np.ndarray[Any, Any]]]:
        for sample in calibration[:CALIBRATION_SAMPLES]:
            yield [sample[np.newaxis].astype(np.float32)]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's C++ chatter away from standard output, which carries events."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
