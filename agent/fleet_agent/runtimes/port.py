"""What the worker needs of an interpreter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fleet_shared.manifest import Quantization

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as the interpreter sees it; the shape includes the batch."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    quantization: Quantization | None


def fit(array: Array, info: TensorInfo) -> Array:
    """Return a copy of what a runtime computed as the file describes it: some count in int64 where the
    file has int32. Raises `ValueError` for anything else that differs."""
    if array.dtype != info.dtype and (array.dtype.kind != "i" or info.dtype.kind != "i"):
        raise ValueError(f"{info.name} came out as {array.dtype}, the file has {info.dtype}")
    return np.array(array, dtype=info.dtype).reshape(info.shape)


class Model(Protocol):
    """A loaded model. One thread at a time."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        """Run one batch: arrays in the order, dtype and shape of ``inputs``; returns copies."""


class Runtime(Protocol):
    name: str
    version: str

    def load(self, path: str, threads: int) -> Model:
        """Load a model file; raise `WorkerError` (``worker.model.rejected``)."""
