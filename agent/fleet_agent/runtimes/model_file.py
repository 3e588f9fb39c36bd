"""What a ``.tflite`` file says of its inputs and outputs, without an interpreter or a schema package.

OpenVINO and TVM read the file, and tell neither scales and zero points nor the shapes it was made for.
The file does: a FlatBuffer (flatbuffers.dev, "Internals") of the TFLite schema (tensorflow/lite/schema).
Only the first subgraph is read, and only what a `TensorInfo` needs; quantization per tensor, since
inputs and outputs have no other.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import TensorInfo
from fleet_shared.manifest import Quantization

_IDENTIFIER: Final = b"TFL3"
_DTYPES: Final = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8",
    10: "float64", 12: "uint64", 15: "uint32", 16: "uint16",
}  # fmt: skip
# Numbers of fields in the schema's tables.
_MODEL_SUBGRAPHS: Final = 2
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 0, 1, 2
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_QUANTIZATION = 0, 1, 3, 4
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO_POINT = 2, 3


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs in the file's order, with the shapes that it was made for."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def load_signature(path: str) -> Signature:
    """Raise `WorkerError` (``worker.model.rejected``) for what is no such file."""
    try:
        return read_signature(Path(path).read_bytes())
    except (OSError, struct.error, IndexError, KeyError, ValueError) as exc:
        raise WorkerError(
            f"{path} is no TFLite file that can be read: {exc}",
            hint="the slot is damaged; push again",
            code="worker.model.rejected",
        ) from exc


def read_signature(content: bytes) -> Signature:
    """Raises `struct.error`, `IndexError`, `KeyError` or `ValueError` for a damaged file."""
    if content[4:8] != _IDENTIFIER:
        raise ValueError("its identifier is missing")
    buffer = _Buffer(content)
    graph = buffer.tables(buffer.root, _MODEL_SUBGRAPHS)[0]
    tensors = buffer.tables(graph, _GRAPH_TENSORS)

    def describe(field: int) -> tuple[TensorInfo, ...]:
        return tuple(_describe(buffer, tensors[index]) for index in buffer.scalars(graph, field, "i"))

    return Signature(describe(_GRAPH_INPUTS), describe(_GRAPH_OUTPUTS))


def _describe(buffer: "_Buffer", tensor: int) -> TensorInfo:
    kind = buffer.scalar(tensor, _TENSOR_TYPE, "b")
    if kind not in _DTYPES:
        raise ValueError(f"tensor type {kind} is not known")
    return TensorInfo(
        name=buffer.text(tensor, _TENSOR_NAME),
        dtype=np.dtype(_DTYPES[kind]),
        shape=tuple(buffer.scalars(tensor, _TENSOR_SHAPE, "i")),
        quantization=_quantization(buffer, buffer.table(tensor, _TENSOR_QUANTIZATION)),
    )


def _quantization(buffer: "_Buffer", table: int | None) -> Quantization | None:
    if table is None:
        return None
    scales = buffer.scalars(table, _QUANTIZATION_SCALE, "f")
    points = buffer.scalars(table, _QUANTIZATION_ZERO_POINT, "q")
    if len(scales) != 1 or not scales[0]:
        return None
    return Quantization(scale=scales[0], zero_point=points[0] if points else 0)


class _Buffer:
    """Positions of tables and the values of their fields; an absent field is empty, 0 or none."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.root = self._offset(0)

    def table(self, table: int, field: int) -> int | None:
        at = self._field(table, field)
        return None if at is None else self._offset(at)

    def tables(self, table: int, field: int) -> list[int]:
        at = self._field(table, field)
        if at is None:
            return []
        start, count = self._vector(at)
        return [self._offset(start + 4 * i) for i in range(count)]

    def scalar(self, table: int, field: int, kind: str) -> Any:
        at = self._field(table, field)
        return 0 if at is None else self._unpack(kind, at)

    def scalars(self, table: int, field: int, kind: str) -> list[Any]:
        at = self._field(table, field)
        if at is None:
            return []
        start, count = self._vector(at)
        if count > len(self._content):
            raise ValueError("a vector is longer than the file")
        return list(struct.unpack_from(f"<{count}{kind}", self._content, start))

    def text(self, table: int, field: int) -> str:
        at = self._field(table, field)
        if at is None:
            return ""
        start, count = self._vector(at)
        return self._content[start : start + count].decode("utf-8", "replace")

    def _field(self, table: int, field: int) -> int | None:
        virtual = table - self._unpack("i", table)
        place = 4 + 2 * field
        if place >= self._unpack("H", virtual):
            return None
        shift = self._unpack("H", virtual + place)
        return table + shift if shift else None

    def _vector(self, at: int) -> tuple[int, int]:
        start = self._offset(at)
        return start + 4, int(self._unpack("I", start))

    def _offset(self, at: int) -> int:
        return at + int(self._unpack("I", at))

    def _unpack(self, kind: str, at: int) -> Any:
        if at < 0:
            raise ValueError("a position before the file")
        return struct.unpack_from(f"<{kind}", self._content, at)[0]
