"""Run a ``.tflite`` file with LiteRT."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid

Array = NDArray[Any]


@dataclass(frozen=True)
class Kernels:
    """A way to compute: with or without XNNPACK, on so many threads."""

    threads: int
    reference: bool = False


class LiteModel:
    """A loaded file. Raises `Invalid` (``model.file.unloadable``)."""

    def __init__(self, content: bytes, kernels: Kernels | None = None) -> None:
        kernels = kernels or Kernels(1)
        resolver = (
            OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if kernels.reference else OpResolverType.AUTO
        )
        try:
            self._interpreter = Interpreter(
                model_content=content,
                num_threads=kernels.threads,
                experimental_op_resolver_type=resolver,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as exc:
            raise Invalid(
                f"LiteRT cannot load the model: {str(exc).strip()}",
                hint="convert it for TFLite builtin operators",
                code="model.file.unloadable",
            ) from exc
        self.inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self.outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run one sample: arrays of the tensors' own shapes and types. Raises `Invalid`
        (``model.run``) when the model cannot compute them."""
        try:
            for detail, array in zip(self.inputs, inputs, strict=True):
                self._interpreter.set_tensor(detail["index"], array)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as exc:
            raise Invalid(
                f"LiteRT cannot run the model: {str(exc).strip()}",
                hint="do the samples fit its inputs?",
                code="model.run",
            ) from exc
        return [self._interpreter.get_tensor(detail["index"]) for detail in self.outputs]

    def quantize(self, real: NDArray[np.float32], index: int = 0) -> Array:
        """Return a real-valued input in the tensor's type: half to even, saturated."""
        detail = self.inputs[index]
        scale, zero_point = detail["quantization"]
        if not scale:
            return real.astype(detail["dtype"])
        limits = np.iinfo(detail["dtype"])
        steps = np.rint(real / np.float32(scale)) + zero_point
        quantized: Array = np.clip(steps, limits.min, limits.max).astype(detail["dtype"])
        return quantized

    def dequantize(self, array: Array, index: int = 0) -> NDArray[np.float32]:
        scale, zero_point = self.outputs[index]["quantization"]
        real: NDArray[np.float32] = array.astype(np.float32)
        return (real - zero_point) * np.float32(scale) if scale else real
