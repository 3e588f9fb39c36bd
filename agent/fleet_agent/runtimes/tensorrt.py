"""TensorRT, through ONNX Runtime's execution providers (package onnxruntime-gpu).

TensorRT reads no ``.tflite``: the slot needs the same model as ``model.onnx`` beside it. Inputs and
outputs are matched in order with those of the ``.tflite``, whose shapes and types it must have. What
TensorRT does not take runs on CUDA; what CUDA does not take, on the CPU. Engines are kept on disk.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.model_file import load_signature
from fleet_agent.runtimes.port import Array, Model, fit

TENSORRT: Final = "TensorrtExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
DISTRIBUTIONS: Final = ("onnxruntime-gpu", "onnxruntime")


class TensorRt:
    name = "tensorrt"

    def __init__(self, cache: Path | None = None) -> None:
        import onnxruntime

        self._onnxruntime, self._cache = onnxruntime, cache
        self.version = find_version()
        available = onnxruntime.get_available_providers()
        if TENSORRT not in available:
            raise ImportError(f"ONNX Runtime has no TensorRT provider, only {', '.join(available)}")

    def load(self, path: str, threads: int) -> Model:
        file = Path(path).with_suffix(".onnx")
        if not file.is_file():
            raise WorkerError(
                f"TensorRT reads no .tflite, and there is no {file.name} beside it",
                hint="allow another runtime on this device",
                code="worker.model.rejected",
            )
        return OnnxModel(self._onnxruntime, path, file, _providers(self._cache), threads)


def find_version() -> str:
    """Return the version of whichever distribution brings ONNX Runtime."""
    for distribution in DISTRIBUTIONS:
        try:
            return version(distribution)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError("ONNX Runtime is not installed")


def _providers(cache: Path | None) -> list[Any]:
    options = {}
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        options = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache)}
    return [(TENSORRT, options), CUDA, "CPUExecutionProvider"]


class OnnxModel:
    """A session of ONNX Runtime, described by the ``.tflite`` that it stands for."""

    def __init__(self, onnxruntime: Any, path: str, file: Path, providers: list[Any], threads: int) -> None:
        signature = load_signature(path)
        self.inputs, self.outputs = signature.inputs, signature.outputs
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=providers)
        except Exception as exc:  # ONNX Runtime has its own kinds
            raise WorkerError(
                f"ONNX Runtime rejects the model: {str(exc).strip()}",
                hint="allow another runtime on this device",
                code="worker.model.rejected",
            ) from exc
        self._names = [one.name for one in self._session.get_inputs()]
        if len(self._names) != len(self.inputs) or len(self._session.get_outputs()) != len(self.outputs):
            raise WorkerError(
                f"{file.name} has other inputs and outputs than the .tflite beside it",
                code="worker.model.rejected",
            )

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        try:
            answers = self._session.run(None, dict(zip(self._names, inputs, strict=True)))
            return [fit(np.asarray(one), info) for one, info in zip(answers, self.outputs, strict=True)]
        except Exception as exc:
            raise WorkerError(f"inference failed: {str(exc).strip()}", code="worker.invoke") from exc
