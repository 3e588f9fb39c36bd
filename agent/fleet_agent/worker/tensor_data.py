"""Tensors in requests and answers: as JSON numbers, or as bytes behind the JSON (Triton's binary tensor
data extension: little-endian, row after row, nothing in between)."""

import math
from typing import Any, Final

import msgspec
import numpy as np

from fleet_agent.datatypes import DATATYPES
from fleet_agent.runtimes.port import Array, TensorInfo

BATCH_MAX: Final = 256
_HAVE_NO_FORM: Final = ("BYTES", "BF16")


class BadRequest(Exception):
    """The client's fault: HTTP 400 with this sentence."""


class TensorParameters(msgspec.Struct, frozen=True):
    """``binary_data_size`` in bytes. ``preprocess``: these are samples, see `samples`. Other parameters of
    a tensor ask for what is not served here."""

    binary_data_size: int | None = None
    shared_memory_region: str | None = None
    preprocess: bool | None = None


class RequestTensor(msgspec.Struct, frozen=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: TensorParameters = TensorParameters()

    @property
    def binary_bytes(self) -> int | None:
        return self.parameters.binary_data_size


def read_tensor(tensor: RequestTensor, info: TensorInfo, binary: memoryview | None, *, rows: bool) -> Array:
    """Return a tensor of a request in the model's own type. ``binary``: its bytes, if they came so.
    ``rows``: its first axis counts samples. Raises `BadRequest`."""
    datatype = DATATYPES[info.dtype.name]
    if tensor.datatype != datatype:
        also = " (this agent carries neither BYTES nor BF16)" if tensor.datatype in _HAVE_NO_FORM else ""
        raise BadRequest(f"input {info.name!r} must be {datatype}, got {tensor.datatype}{also}")
    if tensor.parameters.shared_memory_region is not None:
        raise BadRequest(f"input {info.name!r}: shared memory is not served; send the data")
    _check_shape(tensor.shape, info, rows=rows)
    if binary is None:
        return _read_json(tensor, info)
    if tensor.data is not None:
        raise BadRequest(f"input {info.name!r} has both data and binary_data_size")
    return read_bytes(binary, info, tensor.shape)


def read_bytes(binary: memoryview, info: TensorInfo, shape: list[int]) -> Array:
    """Return the tensor that these bytes are, without a copy. Raises `BadRequest`."""
    wanted = math.prod(shape) * info.dtype.itemsize
    if len(binary) != wanted:
        raise BadRequest(f"input {info.name!r} of {shape} has {wanted} bytes, got {len(binary)}")
    if info.dtype.kind == "b" and not np.isin(np.frombuffer(binary, np.uint8), (0, 1)).all():
        raise BadRequest(f"input {info.name!r} is BOOL: each byte must be 0 or 1")
    return np.frombuffer(binary, info.dtype).reshape(shape)


def read_raw(binary: memoryview, info: TensorInfo, *, rows: bool) -> Array:
    """Return a tensor whose request is nothing but its bytes: as many samples as they fill."""
    shape = list(info.shape)
    if rows:
        shape[0] = len(binary) // (math.prod(info.shape[1:]) * info.dtype.itemsize)
        _check_shape(shape, info, rows=rows)
    return read_bytes(binary, info, shape)


def write_json(info: TensorInfo, array: Array) -> dict[str, Any]:
    return {
        "name": info.name,
        "datatype": DATATYPES[info.dtype.name],
        "shape": list(array.shape),
        "data": array.ravel().tolist(),
    }


def write_binary(info: TensorInfo, array: Array) -> tuple[dict[str, Any], bytes]:
    """Return the description, and the bytes to send behind it."""
    content = array.tobytes()
    description = {
        "name": info.name,
        "datatype": DATATYPES[info.dtype.name],
        "shape": list(array.shape),
        "parameters": {"binary_data_size": len(content)},
    }
    return description, content


def _check_shape(shape: list[int], info: TensorInfo, *, rows: bool) -> None:
    wanted = [-1, *info.shape[1:]] if rows else list(info.shape)
    fits = len(shape) == len(wanted) and shape[1:] == wanted[1:]
    if not fits or (not rows and shape != wanted):
        raise BadRequest(f"input {info.name!r} must have shape {wanted}, got {shape}")
    if rows and not 1 <= shape[0] <= BATCH_MAX:
        raise BadRequest(
            f"input {info.name!r} must have shape {wanted} with at most {BATCH_MAX} samples, got {shape}"
        )


def _read_json(tensor: RequestTensor, info: TensorInfo) -> Array:
    if tensor.data is None:
        raise BadRequest(f"input {info.name!r} has neither data nor binary_data_size")
    try:
        values = _read_numbers(tensor.data, info).reshape(tensor.shape)
        _check_range(values, info)
    except (ValueError, TypeError, OverflowError) as exc:
        named = f"{tensor.datatype} of {tensor.shape}"
        raise BadRequest(f"data of input {info.name!r} is not {named}: {exc}") from exc
    return values.astype(info.dtype)


def _read_numbers(data: list[Any], info: TensorInfo) -> Array:
    values = np.asarray(data)
    if info.dtype == np.uint64 and values.dtype.kind == "f":  # numpy's choice beyond 2**63
        exact = np.asarray(data, dtype=object)
        if all(type(value) is int and 0 <= value < 2**64 for value in exact.ravel()):
            return exact.astype(np.uint64)
    return values


def _check_range(values: Array, info: TensorInfo) -> None:
    if values.dtype.kind not in "biuf":
        raise ValueError("every element must be a number")
    if info.dtype.kind == "b":
        if values.dtype.kind != "b" and not np.isin(values, (0, 1)).all():
            raise ValueError("every element must be true or false")
    elif info.dtype.kind in "iu":
        limits = np.iinfo(info.dtype)
        if values.dtype.kind == "f" or values.min() < limits.min or values.max() > limits.max:
            raise ValueError(f"every element must be a whole number from {limits.min} to {limits.max}")
    elif np.abs(values).max() > np.finfo(info.dtype).max:
        raise ValueError(f"every element must fit {info.dtype}")
