"""Between real values and the tensors of a model, vectorised."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_shared.manifest import Preprocessing, Tensor
from fleet_shared.pixels import to_real


def dequantize(array: Array, info: TensorInfo) -> NDArray[np.float32]:
    """Return real values: (q - zero_point) * scale (TFLite quantization specification)."""
    if info.quantization is None:
        return array.astype(np.float32)
    quantization = info.quantization
    real: NDArray[np.float32] = (array.astype(np.float32) - quantization.zero_point) * np.float32(
        quantization.scale
    )
    return real


def quantize(real: NDArray[np.float32], info: TensorInfo) -> Array:
    """Return the nearest representable values, half to even, saturated to the type's range."""
    if info.quantization is None:
        return real.astype(info.dtype)
    steps = np.rint(real / np.float32(info.quantization.scale)) + info.quantization.zero_point
    limits = np.iinfo(info.dtype)
    quantized: Array = np.clip(steps, limits.min, limits.max).astype(info.dtype)
    return quantized


def preprocess(sample: Array, preprocessing: Preprocessing, info: TensorInfo) -> Array:
    """Return one decoded sample as the model's input with a batch of one; see `prepare`."""
    return prepare(sample[np.newaxis], preprocessing, info)


def prepare(samples: Array, preprocessing: Preprocessing, info: TensorInfo) -> Array:
    """Return decoded samples (the batch first) as the model's input, quantized.

    Samples without the channel axis get one. Raises `WorkerError` (``worker.source.shape``) when
    they do not fill the input.
    """
    shape = (len(samples), *(abs(size) for size in info.shape[1:]))
    if samples.size != math.prod(shape):
        raise WorkerError(
            f"a sample of shape {samples.shape[1:]} does not fit the input {info.shape}",
            hint="the source must give what the model was trained on",
            code="worker.source.shape",
        )
    return quantize(to_real(samples.reshape(shape), preprocessing), info)


def check_contract(found: Sequence[TensorInfo], promised: Sequence[Tensor], what: str) -> None:
    """Raise `WorkerError` (``worker.contract``) unless dtypes and shapes agree, in order.

    Names are not compared: interpreters give different ones for the same file.
    """
    seen = [(info.dtype.name, info.shape[1:]) for info in found]
    wanted = [(tensor.dtype, tensor.shape[1:]) for tensor in promised]
    if seen != wanted:
        raise WorkerError(
            f"{what}s of the model are {seen}, the contract says {wanted}",
            hint="the manifest does not belong to this model file",
            code="worker.contract",
        )
