"""Quantize a float ``.tflite`` file for which there is no Keras model: after training only.

The work is done by AI Edge Quantizer. It is told by operator which precision to use, and runs the float file
over samples for the ranges of activations.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import qtyping
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.quantizer import Quantizer
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.canonical import canonicalise
from fleet_cloud.factory.inspect import MAGIC, inspect_file
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Precision
from fleet_cloud.factory.quantization.samples import require_samples

Array = NDArray[Any]

_Op: Final = qtyping.TFLOperationName
_PER_TENSOR: Final = qtyping.QuantGranularity.TENSORWISE
_PER_CHANNEL: Final = qtyping.QuantGranularity.CHANNELWISE
_WEIGHTED: Final = (_Op.FULLY_CONNECTED, _Op.CONV_2D, _Op.DEPTHWISE_CONV_2D, _Op.CONV_2D_TRANSPOSE)
_ALL: Final = ".*"
_SIGNATURE: Final = "serving_default"
_THREADS: Final = 1


def quantize_file(content: bytes, precision: Precision, lab: Lab | None) -> bytes:
    """Return a float file in another precision, in its canonical form. Samples need no labels.

    Raises `BuildError`: ``build.samples`` when int8 or int16x8 has none, ``build.convert`` when the file is
    not float or cannot be quantized; `Invalid` (``model.file.invalid``) when it is no file of a model.
    """
    if precision.kind == "fp32":
        return content
    if (found := inspect_file(content).variant) != "fp32":
        raise BuildError(
            f"the file is {found} already, and cannot be quantized to {precision.kind}",
            hint="give the float .tflite file that it was made of",
            code="build.convert",
        )
    samples = _draw(precision, lab) if precision.kind in ("int8", "int16x8") else None
    try:
        with _silence():
            return canonicalise(_quantize(_with_signature(content), precision, samples))
    except Exception as exc:  # whatever a file causes, it is said
        raise BuildError(
            f"the file cannot be quantized to {precision.kind}: {exc}",
            hint="give a float .tflite file with one input",
            code="build.convert",
        ) from exc


def _quantize(content: bytes, precision: Precision, samples: Array | None) -> bytes:
    quantizer = Quantizer(bytearray(content))
    _ASK[precision.kind](quantizer, precision)
    seen = None if samples is None else _calibrate(quantizer, content, samples)
    done = quantizer.quantize(seen, enable_progress_bar=False, enable_progress_report=False)
    return bytes(done.quantized_model)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The quantizer draws progress bars, and warns of what it does to an interpreter on purpose."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _draw(precision: Precision, lab: Lab | None) -> Array:
    return require_samples(lab, precision.kind).draw(precision.calibration_samples)


def _calibrate(quantizer: Any, content: bytes, samples: Array) -> Any:
    interpreter = Interpreter(model_content=content, num_threads=_THREADS)
    signature, named = next(iter(interpreter.get_signature_list().items()))
    data = {signature: [{named["inputs"][0]: sample[np.newaxis]} for sample in samples]}
    return quantizer.calibrate(data, num_threads=_THREADS)


def _ask_for_float16(quantizer: Any, _precision: Precision) -> None:
    for op in _WEIGHTED:
        quantizer.add_weight_only_config(_ALL, op, 16, _PER_TENSOR, AlgorithmName.FLOAT_CASTING)


def _ask_for_dynamic_range(quantizer: Any, precision: Precision) -> None:
    quantizer.add_dynamic_config(_ALL, _Op.ALL_SUPPORTED, 8)
    if not precision.per_channel_dense:
        quantizer.add_dynamic_config(_ALL, _Op.FULLY_CONNECTED, 8, _PER_TENSOR)


def _ask_for_int8(quantizer: Any, precision: Precision) -> None:
    _ask_for_integers(quantizer, precision, 8)


def _ask_for_int16x8(quantizer: Any, precision: Precision) -> None:
    _ask_for_integers(quantizer, precision, 16)


def _ask_for_integers(quantizer: Any, precision: Precision, bits: int) -> None:
    quantizer.add_static_config(_ALL, _Op.ALL_SUPPORTED, bits, 8)
    if not precision.per_channel_dense:
        quantizer.add_static_config(_ALL, _Op.FULLY_CONNECTED, bits, 8, _PER_TENSOR)


_ASK: Final[Mapping[str, Callable[[Any, Precision], None]]] = MappingProxyType(
    {
        "float16": _ask_for_float16,
        "dynamic-range": _ask_for_dynamic_range,
        "int8": _ask_for_int8,
        "int16x8": _ask_for_int16x8,
    }
)


def _with_signature(content: bytes) -> bytes:
    """Return the file with names for its inputs and outputs, by which the quantizer runs it. Older
    converters wrote none."""
    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    if model.signatureDefs:
        return content
    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = _SIGNATURE, 0
    signature.inputs = [_name(f"input_{number}", tensor) for number, tensor in enumerate(graph.inputs)]
    signature.outputs = [_name(f"output_{number}", tensor) for number, tensor in enumerate(graph.outputs)]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), MAGIC)
    return bytes(builder.Output())


def _name(name: str, tensor: int) -> Any:
    named = schema.TensorMapT()
    named.name, named.tensorIndex = name, tensor
    return named
