"""From the payload of a message to a request of the Open Inference Protocol. Pure, without numpy."""

import struct
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any, Final

import msgspec

from fleet_agent.bridge.settings import Route
from fleet_agent.errors import AgentError

CODES: Final = MappingProxyType(
    {
        "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h",
        "INT32": "i", "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
    }
)  # fmt: skip
"""Datatype of the protocol to the format character of `struct`."""
NESTING_MAX: Final = 16
Id = str | int | None


class PayloadError(AgentError):
    """A message that cannot be made into a request."""

    code = "bridge.payload"


class TensorInfo(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: list[int]


class ModelInfo(msgspec.Struct, frozen=True):
    """The protocol's model metadata, as far as it is needed."""

    versions: list[str]
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]


class JsonSample(msgspec.Struct, frozen=True):
    """``data`` for the first input, or ``inputs`` by name."""

    id: str | int | None = None
    data: list[Any] | None = None
    inputs: dict[str, list[Any]] | None = None


@dataclass(frozen=True)
class Request:
    """``id`` as the message gave it, to be found again in the answer."""

    document: dict[str, Any]
    id: Id = None


def read_payload(payload: bytes, route: Route, info: ModelInfo) -> Request:
    """Return the request for one message; raise `PayloadError`."""
    if route.format == "image":
        image = _describe(info.inputs[0].name, "BYTES", [1], [b64encode(payload).decode()], preprocess=True)
        return Request(_compose([image]))
    if route.format == "tensor":
        return Request(_compose([_read_tensor(payload, info)]))
    sample = _read_json(payload)
    return Request(_compose(_read_inputs(sample, route, info)), sample.id)


def _compose(inputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"inputs": inputs, "parameters": {"classify": True}}


def _describe(
    name: str, datatype: str, shape: list[int], data: list[Any], *, preprocess: bool
) -> dict[str, Any]:
    tensor = {"name": name, "datatype": datatype, "shape": shape, "data": data}
    return {**tensor, "parameters": {"preprocess": True}} if preprocess else tensor


def _read_tensor(payload: bytes, info: ModelInfo) -> dict[str, Any]:
    """The bytes of a batch of one of the model's only input, row after row, little-endian."""
    if len(info.inputs) != 1:
        raise PayloadError(f"the model takes {len(info.inputs)} inputs, a tensor is one", hint="send JSON")
    (tensor,) = info.inputs
    code = CODES.get(tensor.datatype)
    if code is None:
        raise PayloadError(f"tensors of {tensor.datatype} cannot be read here", hint="send JSON")
    shape = _one(tensor.shape)
    layout = struct.Struct(f"<{prod(shape)}{code}")
    if len(payload) != layout.size:
        raise PayloadError(
            f"a tensor {tensor.datatype} {shape} has {layout.size} bytes, got {len(payload)}",
            hint="send the model's own input, row after row, little-endian",
        )
    return _describe(tensor.name, tensor.datatype, shape, list(layout.unpack(payload)), preprocess=False)


def _read_json(payload: bytes) -> JsonSample:
    try:
        sample = msgspec.json.decode(payload, type=list[Any] | JsonSample)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise PayloadError(
            f"the message is no sample in JSON: {exc}", hint='for example {"id": "7", "data": [0.1, 0.2]}'
        ) from exc
    return JsonSample(data=sample) if isinstance(sample, list) else sample


def _read_inputs(sample: JsonSample, route: Route, info: ModelInfo) -> list[dict[str, Any]]:
    given: Mapping[str, list[Any]]
    if sample.inputs is not None and sample.data is None:
        given = sample.inputs
    elif sample.data is not None and sample.inputs is None:
        given = {info.inputs[0].name: sample.data}
    else:
        raise PayloadError("a sample has data, or inputs, and not both", hint='{"data": [0.1, 0.2]}')
    known = {tensor.name: tensor for tensor in info.inputs}
    if given.keys() != known.keys():
        raise PayloadError(
            f"the model takes the inputs {sorted(known)}, got {sorted(given)}",
            hint='{"inputs": {"NAME": [0.1, 0.2]}}',
        )
    return [_read_numbers(known[name], data, route) for name, data in given.items()]


def _read_numbers(tensor: TensorInfo, data: list[Any], route: Route) -> dict[str, Any]:
    flat = list(_flatten(data, NESTING_MAX))
    if route.preprocess:
        return _describe(tensor.name, "FP64", [1, len(flat)], flat, preprocess=True)
    return _describe(tensor.name, tensor.datatype, _one(tensor.shape), flat, preprocess=False)


def _flatten(data: list[Any], depth: int) -> Iterator[Any]:
    if depth == 0:
        raise PayloadError(f"lists are nested deeper than {NESTING_MAX}", hint="send numbers row after row")
    for value in data:
        if isinstance(value, list):
            yield from _flatten(value, depth - 1)
        elif isinstance(value, (int, float)):
            yield value
        else:
            raise PayloadError(f"{value!r:.40} is no number", hint="send numbers only")


def _one(shape: list[int]) -> list[int]:
    """Return the shape of a batch of one."""
    return [1 if size < 0 else size for size in shape]
