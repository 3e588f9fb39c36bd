"""Open Inference Protocol v2: documents and tensors in, documents and tensors out, no sockets.

Tensors are the model's own: an int8 model takes and gives int8, and its metadata says so. Served beside
the protocol itself: Triton's binary tensor data and statistics extensions.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np

from fleet_agent import __version__
from fleet_agent.datatypes import DATATYPES
from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_agent.worker.classes import find_class
from fleet_agent.worker.engine import Engine, Inference
from fleet_agent.worker.pictures import takes_images
from fleet_agent.worker.samples import read_samples
from fleet_agent.worker.tensor_data import (
    BATCH_MAX,
    BadRequest,
    RequestTensor,
    read_raw,
    read_tensor,
    write_binary,
    write_json,
)
from fleet_agent.worker.totals import Served

EXTENSIONS: Final = ("binary_tensor_data", "statistics")
JSON_BYTES_OF_AN_ELEMENT: Final = 32
"""The longest number with its comma, and some white space."""
BODY_BYTES_MIN: Final = 64 * 1024
BODY_BYTES_MAX: Final = 16 * 1024 * 1024
_OURS: Final = frozenset({"binary_data_output", "classify"})
"""Parameters of a request that are obeyed, and so not echoed."""


class OutputParameters(msgspec.Struct, frozen=True):
    binary_data: bool | None = None
    classification: int | None = None
    shared_memory_region: str | None = None


class RequestedOutput(msgspec.Struct, frozen=True):
    name: str
    parameters: OutputParameters = OutputParameters()


class Request(msgspec.Struct, frozen=True):
    inputs: list[RequestTensor]
    id: str | None = None
    parameters: dict[str, bool | int | float | str] = {}
    outputs: list[RequestedOutput] | None = None

    def is_binary(self, output: RequestedOutput) -> bool:
        own = output.parameters.binary_data
        return self.parameters.get("binary_data_output") is True if own is None else own


RAW: Final = Request(inputs=[], parameters={"binary_data_output": True})
"""What a request means that is nothing but the bytes of one tensor: so is its answer."""

_decoder: Final = msgspec.json.Decoder(Request)
_encoder: Final = msgspec.json.Encoder()


@dataclass(frozen=True)
class Reply:
    """The answer's document, and the binary tensors behind it in the order in which it names them."""

    document: bytes
    binary: tuple[bytes, ...] = ()


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

    @cached_property
    def has_rows(self) -> bool:
        """Whether the first axis of every tensor counts samples, so that a batch is cut into those."""
        model = self.engine.model
        return all(info.shape[:1] == (1,) for info in (*model.inputs, *model.outputs))

    @cached_property
    def body_bytes_max(self) -> int:
        """What the largest batch takes as JSON, within bounds; encoded images may be of any size. One sample
        as bytes is always taken."""
        sizes = [(int(np.prod(info.shape, dtype=np.int64)), info) for info in self.engine.model.inputs]
        at_least = BODY_BYTES_MIN + sum(size * info.dtype.itemsize for size, info in sizes)
        wanted = BODY_BYTES_MIN + sum(size for size, _ in sizes) * JSON_BYTES_OF_AN_ELEMENT * BATCH_MAX
        if takes_images(self.engine.model.inputs[0]):
            wanted = BODY_BYTES_MAX
        return max(at_least, min(wanted, BODY_BYTES_MAX))

    def server_metadata(self) -> dict[str, Any]:
        return {"name": "fleet-agent", "version": __version__, "extensions": list(EXTENSIONS)}

    def model_metadata(self) -> dict[str, Any]:
        return {
            "name": self.model,
            "versions": [self.version],
            "platform": self.engine.runtime.name,
            "inputs": [self._describe(info) for info in self.engine.model.inputs],
            "outputs": [self._describe(info) for info in self.engine.model.outputs],
        }

    def statistics(self) -> dict[str, Any]:
        counted = self.engine.statistics.totals.describe()
        return {"model_stats": [{"name": self.model, "version": self.version, **counted}]}

    def infer(self, body: bytes | memoryview, json_bytes: int | None = None) -> Reply:
        """Answer an inference request, and count it. ``json_bytes``: how many of ``body`` are JSON, where
        binary tensors follow; 0 where the body is nothing but one tensor. Raises `BadRequest`, or
        `WorkerError` when the model fails."""
        begin_ns = time.perf_counter_ns()
        totals = self.engine.statistics.totals
        try:
            request, arrays = self._read(memoryview(body), json_bytes)
            wanted = self._choose_outputs(request)
            read_ns = time.perf_counter_ns()
            outputs, runs = self._run(arrays)
            ran_ns = time.perf_counter_ns()
            reply = self._write(request, wanted, outputs)
        except BaseException:
            totals.add_failure(time.perf_counter_ns() - begin_ns, _now_ms())
            raise
        end_ns = time.perf_counter_ns()
        served = Served(
            samples=len(runs),
            executions=len(runs),
            total_ns=end_ns - begin_ns,
            queue_ns=sum(run.queue_ns for run in runs),
            input_ns=read_ns - begin_ns,
            infer_ns=sum(run.infer_ns for run in runs),
            output_ns=end_ns - ran_ns,
        )
        totals.add(served, _now_ms())
        return reply

    def _read(self, body: memoryview, json_bytes: int | None) -> tuple[Request, list[Array]]:
        infos, rows = self.engine.model.inputs, self.has_rows
        if json_bytes == 0:
            if len(infos) != 1:
                raise BadRequest(f"a request without JSON is for models of one input, not of {len(infos)}")
            return RAW, [read_raw(body, infos[0], rows=rows)]
        request = _parse(body if json_bytes is None else body[:json_bytes])
        binary = _cut_binary(request, None if json_bytes is None else body[json_bytes:])
        given = {tensor.name: tensor for tensor in request.inputs}
        if len(given) != len(request.inputs) or given.keys() != {info.name for info in infos}:
            raise BadRequest(f"inputs must be {[info.name for info in infos]}, got {sorted(given)}")
        arrays = [self._read_input(given[info.name], info, binary.get(info.name)) for info in infos]
        if rows and len({len(array) for array in arrays}) != 1:
            raise BadRequest("all inputs must have the same batch size")
        return request, arrays

    def _read_input(self, tensor: RequestTensor, info: TensorInfo, binary: memoryview | None) -> Array:
        if tensor.parameters.preprocess is not True:
            return read_tensor(tensor, info, binary, rows=self.has_rows)
        return read_samples(
            tensor, info, binary, self.engine.slot.manifest.contract.preprocessing, rows=self.has_rows
        )

    def _run(self, arrays: Sequence[Array]) -> tuple[list[Array], list[Inference]]:
        """Run sample after sample: files fix their batch at one, and a model that is resized for each
        request plans its memory each time. Between two samples others get their turn."""
        if not self.has_rows or len(arrays[0]) == 1:
            run = self.engine.run(arrays)
            return run.outputs, [run]
        runs = [self.engine.run([array[i : i + 1] for array in arrays]) for i in range(len(arrays[0]))]
        return [np.concatenate(parts) for parts in zip(*(run.outputs for run in runs), strict=True)], runs

    def _choose_outputs(self, request: Request) -> list[RequestedOutput]:
        known = [info.name for info in self.engine.model.outputs]
        wanted = request.outputs or [RequestedOutput(name) for name in known]
        if len({output.name for output in wanted}) != len(wanted):
            raise BadRequest("an output is asked for twice")
        for output in wanted:
            if output.name not in known:
                raise BadRequest(f"the model has no output {output.name!r}, only {known}")
            if output.parameters.classification is not None:
                raise BadRequest("classification is not served: take the largest element of the output")
            if output.parameters.shared_memory_region is not None:
                raise BadRequest(f"output {output.name!r}: shared memory is not served")
        return wanted

    def _write(self, request: Request, wanted: list[RequestedOutput], arrays: Sequence[Array]) -> Reply:
        by_name = {info.name: (info, a) for info, a in zip(self.engine.model.outputs, arrays, strict=True)}
        outputs: list[dict[str, Any]] = []
        binary: list[bytes] = []
        for output in wanted:
            if request.is_binary(output):
                description, content = write_binary(*by_name[output.name])
                binary.append(content)
            else:
                description = write_json(*by_name[output.name])
            outputs.append(description)
        document: dict[str, Any] = {"model_name": self.model, "model_version": self.version}
        if request.id is not None:
            document["id"] = request.id
        parameters = {name: value for name, value in request.parameters.items() if name not in _OURS}
        if request.parameters.get("classify") is True:
            parameters |= find_class(arrays, self.engine.model.outputs, self.engine.slot.labels)
        if parameters:
            document["parameters"] = parameters
        document["outputs"] = outputs
        return Reply(_encoder.encode(document), tuple(binary))

    def _describe(self, info: TensorInfo) -> dict[str, Any]:
        shape = [-1, *info.shape[1:]] if self.has_rows else list(info.shape)
        return {"name": info.name, "datatype": DATATYPES[info.dtype.name], "shape": shape}


def _parse(raw: memoryview) -> Request:
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequest(f"the request does not parse: {exc}") from exc


def _cut_binary(request: Request, rest: memoryview | None) -> dict[str, memoryview]:
    """Return the bytes of each binary input by name: they follow each other in the order of the inputs."""
    sizes = {tensor.name: tensor.binary_bytes for tensor in request.inputs if tensor.binary_bytes is not None}
    if rest is None:
        if sizes:
            raise BadRequest("binary tensors need the header Inference-Header-Content-Length")
        return {}
    if any(size < 0 for size in sizes.values()) or sum(sizes.values()) != len(rest):
        raise BadRequest(
            f"binary inputs have {sum(sizes.values())} bytes by their sizes, and {len(rest)} follow the JSON"
        )
    cut: dict[str, memoryview] = {}
    for name, size in sizes.items():
        cut[name], rest = rest[:size], rest[size:]
    return cut


def _now_ms() -> int:
    return int(time.time() * 1000)
