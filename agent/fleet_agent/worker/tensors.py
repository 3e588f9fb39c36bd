"""Between real values and the tensors of a model, vectorised."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_shared.manifest import Preprocessing, Tensor


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
    """Return one decoded sample as the model's input with a batch of one.

    A sample without the channel axis gets one. Raises `WorkerError` (``worker.source.shape``)
    when it does not fill the input.
    """
    real = sample.astype(np.float32) * np.float32(preprocessing.scale) + np.float32(preprocessing.offset)
    if real.size != int(np.prod([abs(size) for size in info.shape])):
        raise WorkerError(
            f"a sample of shape {sample.shape} does not fit the input {info.shape}",
            hint="the source must give what the model was trained on",
            code="worker.source.shape",
        )
    return quantize(real.reshape([1, *info.shape[1:]]), info)


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
