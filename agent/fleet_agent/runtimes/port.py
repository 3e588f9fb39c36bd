"""What the worker needs of an interpreter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fleet_agent.errors import WorkerError
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


def load_runtime(name: str) -> Runtime:
    """Return the runtime module's runtime; raise `WorkerError` (``worker.runtime.missing``)."""
    try:
        if name == "litert":
            from fleet_agent.runtimes.litert import LiteRt

            return LiteRt()
        if name == "tflite_runtime":
            from fleet_agent.runtimes.tflite_runtime import TfliteRuntime

            return TfliteRuntime()
    except ImportError as exc:
        raise WorkerError(
            f"runtime {name} cannot be loaded: {exc}",
            hint=f"install the agent's extra for {name} again",
            code="worker.runtime.missing",
        ) from exc
    raise WorkerError(
        f"runtime {name!r} is not known to this agent",
        hint="update the agent",
        code="worker.runtime.missing",
    )
