"""The interpreter API that LiteRT and tflite-runtime share."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_shared.manifest import Quantization


class TfliteModel:
    """A TFLite interpreter as a `Model`."""

    def __init__(self, make_interpreter: Callable[[], Any]) -> None:
        try:
            self._interpreter = make_interpreter()
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as exc:
            raise WorkerError(
                f"the runtime rejects the model: {str(exc).strip()}",
                hint="build a variant for this runtime, or install a newer runtime",
                code="worker.model.rejected",
            ) from exc
        ins, outs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs = tuple(_describe(detail) for detail in ins)
        self.outputs = tuple(_describe(detail) for detail in outs)
        self._input_indices = [detail["index"] for detail in ins]
        self._output_indices = [detail["index"] for detail in outs]

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        for index, array in zip(self._input_indices, inputs, strict=True):
            self._interpreter.set_tensor(index, array)
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as exc:
            raise WorkerError(f"inference failed: {str(exc).strip()}", code="worker.invoke") from exc
        return [self._interpreter.get_tensor(index) for index in self._output_indices]


def _describe(detail: dict[str, Any]) -> TensorInfo:
    scale, zero_point = detail["quantization"]
    return TensorInfo(
        name=detail["name"],
        dtype=np.dtype(detail["dtype"]),
        shape=tuple(int(size) for size in detail["shape"]),
        quantization=Quantization(scale=float(scale), zero_point=int(zero_point)) if scale else None,
    )
