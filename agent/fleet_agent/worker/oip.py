"""Open Inference Protocol v2, JSON form: documents in, documents out, no sockets.

Tensors are the model's own: an int8 model takes and gives int8, and its metadata says so. The
binary tensor extension will be another way to read and write the same `Request` and answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from fleet_agent import __version__
from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_agent.worker.engine import Engine
from fleet_agent.worker.samples import find_class, prepare_request

DATATYPES: Final = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
BATCH_MAX: Final = 256


class BadRequest(Exception):
    """The client's fault: HTTP 400 with this sentence."""


class RequestTensor(msgspec.Struct, frozen=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class RequestedOutput(msgspec.Struct, frozen=True):
    name: str


class Request(msgspec.Struct, frozen=True):
    inputs: list[RequestTensor]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None
    parameters: dict[str, Any] = {}


@dataclass(frozen=True)
class Protocol:
    """The protocol's documents for one engine."""

    engine: Engine

    @property
    def model(self) -> str:
        return self.engine.slot.manifest.model

    @property
    def version(self) -> str:
        return self.engine.slot.manifest.version

    def server_metadata(self) -> dict[str, Any]:
        return {"name": "fleet-agent", "version": __version__, "extensions": []}

    def model_metadata(self) -> dict[str, Any]:
        return {
            "name": self.model,
            "versions": [self.version],
            "platform": self.engine.runtime.name,
            "inputs": [_describe(info) for info in self.engine.model.inputs],
            "outputs": [_describe(info) for info in self.engine.model.outputs],
        }

    def infer(self, body: bytes) -> dict[str, Any]:
        """Answer an inference request; raise `BadRequest`, or `WorkerError` when the model fails."""
        try:
            request = msgspec.json.decode(body, type=Request)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise BadRequest(f"the request does not parse: {exc}") from exc
        batch = self._read_inputs(request)
        rows = [self.engine.infer([array[i : i + 1] for array in batch]) for i in range(len(batch[0]))]
        outputs = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
        answer: dict[str, Any] = {
            "model_name": self.model,
            "model_version": self.version,
            "outputs": self._write_outputs(request, outputs),
        }
        if request.parameters.get("classify") is True:
            found = find_class(outputs, self.engine.model.outputs, self.engine.slot.labels)
            if found is not None:
                answer["parameters"] = {"label": found[0], "score": found[1]}
        return answer if request.id is None else {**answer, "id": request.id}

    def _read_inputs(self, request: Request) -> list[Array]:
        given = {tensor.name: tensor for tensor in request.inputs}
        infos = self.engine.model.inputs
        if sorted(given) != sorted(info.name for info in infos) or len(given) != len(request.inputs):
            raise BadRequest(f"inputs must be {[info.name for info in infos]}, got {sorted(given)}")
        arrays = [self._read(given[info.name], info) for info in infos]
        if len({len(array) for array in arrays}) != 1:
            raise BadRequest("all inputs must have the same batch size")
        return arrays

    def _read(self, tensor: RequestTensor, info: TensorInfo) -> Array:
        if tensor.parameters.get("preprocess") is not True:
            return _read(tensor, info)
        preprocessing = self.engine.slot.manifest.contract.preprocessing
        try:
            return prepare_request(tensor.datatype, tensor.shape, tensor.data, preprocessing, info)
        except (WorkerError, ValueError) as exc:
            raise BadRequest(f"input {info.name!r}: {exc}") from exc

    def _write_outputs(self, request: Request, arrays: Sequence[Array]) -> list[dict[str, Any]]:
        by_name = {
            info.name: (info, array) for info, array in zip(self.engine.model.outputs, arrays, strict=True)
        }
        wanted = [output.name for output in request.outputs] if request.outputs else list(by_name)
        if unknown := [name for name in wanted if name not in by_name]:
            raise BadRequest(f"the model has no output {unknown[0]!r}, only {list(by_name)}")
        return [_write(*by_name[name]) for name in wanted]


def _describe(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "datatype": DATATYPES[info.dtype.name], "shape": [-1, *info.shape[1:]]}


def _read(tensor: RequestTensor, info: TensorInfo) -> Array:
    datatype = DATATYPES[info.dtype.name]
    if tensor.datatype != datatype:
        raise BadRequest(f"input {info.name!r} must be {datatype}, got {tensor.datatype}")
    fits = len(tensor.shape) == max(1, len(info.shape)) and tensor.shape[1:] == list(info.shape[1:])
    if not fits or not 1 <= tensor.shape[0] <= BATCH_MAX:
        raise BadRequest(
            f"input {info.name!r} must have shape {[-1, *info.shape[1:]]} with at most {BATCH_MAX} "
            f"samples, got {tensor.shape}"
        )
    try:
        values = np.asarray(tensor.data).reshape(tensor.shape)
        _check_range(values, info)
    except (ValueError, TypeError) as exc:
        raise BadRequest(f"data of input {info.name!r} is not {datatype} of {tensor.shape}: {exc}") from exc
    return values.astype(info.dtype)


def _check_range(values: Array, info: TensorInfo) -> None:
    if values.dtype.kind not in "biuf":
        raise ValueError("every element must be a number")
    if info.dtype.kind in "iu":
        limits = np.iinfo(info.dtype)
        if values.dtype.kind == "f" or values.min() < limits.min or values.max() > limits.max:
            raise ValueError(f"every element must be a whole number from {limits.min} to {limits.max}")
    elif info.dtype.kind == "f" and np.abs(values).max() > np.finfo(info.dtype).max:
        raise ValueError(f"every element must fit {info.dtype}")


def _write(info: TensorInfo, array: Array) -> dict[str, Any]:
    return {
        "name": info.name,
        "datatype": DATATYPES[info.dtype.name],
        "shape": list(array.shape),
        "data": array.ravel().tolist(),
    }
