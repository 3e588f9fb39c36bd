"""The weights of a ``.tflite`` file, as they are stored: zeros, different values, and how they lie.

A weight is a constant with two axes or more, of a type that is computed with (`COMPUTED`): biases, shapes and
indices are none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.evaluation.results import Histogram, TensorResult, Weights

Array = NDArray[Any]

BINS: Final = 41
"""Odd, so that zero lies within a bin."""
COMPUTED: Final[dict[int, np.dtype[Any]]] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.FLOAT16: np.dtype("<f2"),
    schema.TensorType.INT16: np.dtype("<i2"),
    schema.TensorType.INT8: np.dtype("i1"),
    schema.TensorType.UINT8: np.dtype("u1"),
}
_NAMES: Final = {number: name.lower() for name, number in vars(schema.TensorType).items() if name.isupper()}


@dataclass(frozen=True)
class Weight:
    """``codes``: the values as they are stored, in the tensor's shape; ``scale``, ``zero_point``: none, one,
    or one for each index of ``axis``."""

    name: str
    dtype: str
    codes: Array
    scale: Array
    zero_point: Array
    axis: int

    @property
    def real(self) -> NDArray[np.float32]:
        """The weights in real numbers."""
        if not len(self.scale):
            return self.codes.astype(np.float32)
        along = [1] * self.codes.ndim
        along[self.axis] = len(self.scale)
        centred = self.codes.astype(np.float32) - self.zero_point.astype(np.float32).reshape(along)
        return centred * self.scale.astype(np.float32).reshape(along)

    @property
    def zeros(self) -> int:
        return int(np.count_nonzero(self.real == 0))


def read_weights(content: bytes) -> list[Weight]:
    """Return the weights of all subgraphs, each buffer once, in the file's order. Raises `Invalid`
    (``model.file.invalid``)."""
    try:
        model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
        tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
        return list(_read_weights(model, tensors, content))
    except Exception as exc:  # whatever a damaged file causes, it is refused
        raise Invalid(
            f"the file is a damaged TFLite model: {exc}", hint="export it again", code="model.file.invalid"
        ) from exc


def describe_weights(content: bytes) -> Weights:
    """Return the facts of all weights. Raises as `read_weights` does."""
    weights = read_weights(content)
    tensors = tuple(
        TensorResult(
            name=weight.name,
            dtype=weight.dtype,
            shape=weight.codes.shape,
            values=weight.codes.size,
            zeros=weight.zeros,
            distinct=len(np.unique(weight.codes)),
        )
        for weight in weights
    )
    return Weights(
        values=sum(tensor.values for tensor in tensors),
        zeros=sum(tensor.zeros for tensor in tensors),
        distinct_max=max((tensor.distinct for tensor in tensors), default=0),
        tensors=tensors,
        histogram=make_histogram([weight.real for weight in weights]),
    )


def make_histogram(arrays: Sequence[Array], bins: int = BINS) -> Histogram | None:
    """Return how real values lie around zero, in ``bins`` of equal width; none without a value but zeros."""
    values = np.concatenate([array.ravel() for array in arrays]) if arrays else np.empty(0)
    others = values[values != 0]
    if not len(others):
        return None
    reach = float(np.abs(others).max())
    counts, _ = np.histogram(others, bins=bins, range=(-reach, reach))
    return Histogram(
        low=-reach,
        high=reach,
        counts=tuple(int(count) for count in counts),
        zeros=len(values) - len(others),
    )


def _read_weights(model: Any, tensors: Sequence[Any], content: bytes) -> Iterator[Weight]:
    seen: set[int] = set()
    for tensor in tensors:
        shape = tuple(int(size) for size in (tensor.shape if tensor.shape is not None else ()))
        if tensor.type not in COMPUTED or len(shape) < 2 or tensor.buffer in seen:
            continue
        raw = _read_buffer(model.buffers[tensor.buffer], content)
        if not raw:
            continue
        seen.add(tensor.buffer)
        stored = np.frombuffer(raw, dtype=COMPUTED[tensor.type])
        codes = np.zeros(int(np.prod(shape)), dtype=stored.dtype)
        codes[: len(stored)] = stored  # a sparse tensor stores fewer: the others are zeros, wherever they lie
        yield _weight(tensor, codes.reshape(shape))


def _weight(tensor: Any, codes: Array) -> Weight:
    quantization = tensor.quantization
    scale = () if quantization is None or quantization.scale is None else quantization.scale
    scaled = len(scale) > 0
    return Weight(
        name=tensor.name.decode(errors="replace") if isinstance(tensor.name, bytes) else str(tensor.name),
        dtype=_NAMES[tensor.type],
        codes=codes,
        scale=np.asarray(scale) if scaled else np.empty(0),
        zero_point=np.asarray(quantization.zeroPoint) if scaled else np.empty(0),
        axis=int(quantization.quantizedDimension) if scaled and len(scale) > 1 else 0,
    )


def _read_buffer(buffer: Any, content: bytes) -> bytes:
    """Return the data of a buffer; of large files it lies behind the flatbuffer."""
    if buffer.offset > 1:
        return content[buffer.offset : buffer.offset + buffer.size]
    return b"" if buffer.data is None else bytes(bytearray(buffer.data))
