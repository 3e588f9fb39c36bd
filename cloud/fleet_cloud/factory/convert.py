"""From Keras to TFLite, in the precision that a network asks for. Inputs get a fixed batch of one."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.canonical import canonicalise
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network, Precision
from fleet_cloud.factory.quantization.aware import round_probabilities, settle_weights
from fleet_cloud.factory.quantization.samples import require_samples
from fleet_cloud.factory.train import with_softmax


def convert(network: Network, lab: Lab | None) -> bytes:
    """Return the network as a ``.tflite`` file in its one form: probabilities out for a classification.

    Without a ``lab`` the outputs are those of the model. Raises `BuildError`: ``build.samples`` when
    there is nothing from which to take the ranges of activations, ``build.convert``.
    """
    precision = network.precision
    model = settle_weights(network.model) if precision.aware else network.model
    if lab is not None and lab.task == "classification":
        model = with_softmax(model)
        model = round_probabilities(model) if precision.aware else model
    with tempfile.TemporaryDirectory(prefix="fleet-convert-") as folder:
        signature = [tf.TensorSpec((1, *model.input.shape[1:]), tf.float32, name="input")]
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", partial(model, training=False), input_signature=signature)
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        _ASK[precision.kind](converter, precision, lab)
        try:
            content = bytes(converter.convert())
        except Exception as exc:
            raise BuildError(
                f"the conversion to {precision.kind} failed: {exc}",
                hint="the converter does not know an operation of this architecture",
                code="build.convert",
            ) from exc
    return canonicalise(content)


def _ask_for_float(_converter: Any, _precision: Precision, _lab: Lab | None) -> None:
    """Nothing need be said."""


def _ask_for_float16(converter: Any, _precision: Precision, _lab: Lab | None) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _ask_for_dynamic_range(converter: Any, precision: Precision, _lab: Lab | None) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    _ask_for_dense(converter, precision)


def _ask_for_int8(converter: Any, precision: Precision, lab: Lab | None) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if not precision.aware:
        converter.representative_dataset = _samples(precision, lab)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    _ask_for_dense(converter, precision)


def _ask_for_int16x8(converter: Any, precision: Precision, lab: Lab | None) -> None:
    ops = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = _samples(precision, lab)
    converter.target_spec.supported_ops = [ops]
    converter.inference_input_type = tf.int16
    converter.inference_output_type = tf.int16
    _ask_for_dense(converter, precision)


def _ask_for_dense(converter: Any, precision: Precision) -> None:
    """Dense layers get one scale for each output, or one for the tensor: older runtimes need that."""
    per_tensor = not precision.per_channel_dense
    converter._experimental_disable_per_channel_quantization_for_dense_layers = per_tensor  # noqa: SLF001


def _samples(precision: Precision, lab: Lab | None) -> Callable[[], Iterator[list[NDArray[np.float32]]]]:
    drawn = require_samples(lab, precision.kind).draw(precision.calibration_samples)
    return lambda: iter([[sample[np.newaxis]] for sample in drawn])


_ASK: Final[Mapping[str, Callable[[Any, Precision, Lab | None], None]]] = MappingProxyType(
    {
        "fp32": _ask_for_float,
        "float16": _ask_for_float16,
        "dynamic-range": _ask_for_dynamic_range,
        "int8": _ask_for_int8,
        "int16x8": _ask_for_int16x8,
    }
)
