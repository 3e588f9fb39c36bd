"""From the payload of a message to a request of the Open Inference Protocol. Pure, without numpy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fleet_agent.bridge.settings import Route
from fleet_agent.errors import AgentError

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
    """``binary``: the bytes that follow the document (the binary tensor data extension). ``id`` as the
    message gave it, to be found again in the answer."""

    document: dict[str, Any]
    binary: bytes = b""
    id: Id = None


def read_payload(payload: bytes, route: Route, info: ModelInfo) -> Request:
    """Return the request for one message; raise `PayloadError`. What of it fits the model in size and
    type is for the worker to say."""
    if route.format == "json":
        sample = _read_json(payload)
        return Request(_compose(_read_inputs(sample, route, info)), id=sample.id)
    if len(info.inputs) != 1:
        raise PayloadError(
            f"the model takes {len(info.inputs)} inputs, one message of {route.format!r} is one",
            hint='send JSON: {"inputs": {"NAME": [0.1, 0.2]}}',
        )
    (tensor,) = info.inputs
    if route.format == "tensor":
        parameters = {"binary_data_size": len(payload)}
        return Request(
            _compose([_describe(tensor, tensor.datatype, _one(tensor.shape), parameters)]), payload
        )
    framed = len(payload).to_bytes(4, "little") + payload
    parameters = {"binary_data_size": len(framed), "preprocess": True}
    return Request(_compose([_describe(tensor, "BYTES", [1], parameters)]), framed)


def _compose(inputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"inputs": inputs, "parameters": {"classify": True}}


def _describe(
    tensor: TensorInfo, datatype: str, shape: list[int], parameters: dict[str, Any]
) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": datatype, "shape": shape, "parameters": parameters}


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
        return {**_describe(tensor, "FP64", [1, len(flat)], {"preprocess": True}), "data": flat}
    return {**_describe(tensor, tensor.datatype, _one(tensor.shape), {}), "data": flat}


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
