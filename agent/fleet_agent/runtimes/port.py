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
