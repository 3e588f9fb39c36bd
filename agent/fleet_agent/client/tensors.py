"""Arrays to requests and answers to arrays: the Open Inference Protocol with binary tensors."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from fleet_agent.datatypes import DATATYPES
from fleet_agent.errors import InferenceError

Array = NDArray[Any]

DTYPES: Final = MappingProxyType({datatype: np.dtype(name) for name, datatype in DATATYPES.items()})
_NAMES: Final = MappingProxyType({dtype: datatype for datatype, dtype in DTYPES.items()})
"""By the type itself, not its name: that says nothing of the order of bytes."""


class Outputs(dict[str, Array]):
    """The outputs by name, and which model and version gave them."""

    def __init__(self, arrays: Mapping[str, Array], model: str, version: str) -> None:
        super().__init__(arrays)
        self.model, self.version = model, version


class OutputParameters(msgspec.Struct, frozen=True):
    binary_data_size: int | None = None


class Output(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: OutputParameters = OutputParameters()


class Answer(msgspec.Struct, frozen=True):
    model_name: str
    outputs: list[Output]
    model_version: str = ""


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Answer)


def write_request(
    inputs: Mapping[str, Array], outputs: Iterable[str] | None, *, binary: bool
) -> tuple[bytes, list[bytes]]:
    """Return the document, and the tensors to send behind it. Raises `ValueError` for a dtype that cannot
    be sent."""
    tensors, contents = [], []
    for name, array in inputs.items():
        tensor: dict[str, Any] = {"name": name, "datatype": _name(name, array), "shape": array.shape}
        if binary:
            contents.append(array.tobytes())
            tensor["parameters"] = {"binary_data_size": array.nbytes}
        else:
            tensor["data"] = array.ravel().tolist()
        tensors.append(tensor)
    document: dict[str, Any] = {"inputs": tensors, "parameters": {"binary_data_output": binary}}
    if outputs is not None:
        document["outputs"] = [{"name": name} for name in outputs]
    return _encoder.encode(document), contents


def read_answer(body: memoryview, json_bytes: int | None) -> Outputs:
    """Return the outputs of an answer, in arrays of their own. Raises `InferenceError`
    (``inference.protocol``)."""
    try:
        answer = _decoder.decode(body if json_bytes is None else body[:json_bytes])
        arrays, place = {}, json_bytes or 0
        for output in answer.outputs:
            size = output.parameters.binary_data_size
            if size is None:
                array = np.array(output.data, DTYPES[output.datatype])
            else:
                array = np.frombuffer(body[place : place + size], DTYPES[output.datatype]).copy()
                place += size
            arrays[output.name] = array.reshape(output.shape)
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError) as exc:
        raise InferenceError(
            f"the answer to an inference request cannot be understood: {exc}", code="inference.protocol"
        ) from exc
    return Outputs(arrays, answer.model_name, answer.model_version)


def _name(name: str, array: Array) -> str:
    datatype = _NAMES.get(array.dtype)
    if datatype is None:
        raise ValueError(f"input {name!r} has dtype {array.dtype}, which cannot be sent: convert it first")
    return datatype
