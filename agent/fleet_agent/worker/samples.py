"""Samples in requests: what the contract's preprocessing turns into tensors.

An input whose parameters say ``"preprocess": true`` is not the model's own tensor but a sample as it
was before preprocessing: encoded images (datatype BYTES; in JSON as base64, behind it each after its
length), or numbers of any datatype, to be scaled and quantized as the contract says.
"""

import binascii
import struct
from base64 import b64decode
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from fleet_agent.datatypes import DATATYPES
from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_agent.worker.pictures import prepare_pictures
from fleet_agent.worker.tensor_data import BATCH_MAX, BadRequest, RequestTensor
from fleet_agent.worker.tensors import prepare
from fleet_shared.manifest import Preprocessing

BYTES: Final = "BYTES"
DTYPES: Final = MappingProxyType({datatype: np.dtype(name) for name, datatype in DATATYPES.items()})
_LENGTH: Final = struct.Struct("<I")


def read_samples(
    tensor: RequestTensor,
    info: TensorInfo,
    binary: memoryview | None,
    preprocessing: Preprocessing,
    *,
    rows: bool,
) -> Array:
    """Return the samples of a request as a batch of the model's input. ``binary``: their bytes, if they
    came so. ``rows``: the model's first axis counts samples. Raises `BadRequest`.

    The shape has the batch first; of images, nothing else.
    """
    try:
        _check(tensor, binary, BATCH_MAX if rows else 1)
        if tensor.datatype == BYTES:
            return prepare_pictures(_read_images(tensor, binary), preprocessing, info)
        return prepare(_read_numbers(tensor, binary), preprocessing, info)
    except (WorkerError, ValueError, TypeError, OverflowError) as exc:
        raise BadRequest(f"input {info.name!r}: {exc}") from exc


def _check(tensor: RequestTensor, binary: memoryview | None, count_max: int) -> None:
    if (tensor.data is None) == (binary is None):
        raise ValueError("it needs data or binary_data_size, and not both")
    if not tensor.shape or not 1 <= tensor.shape[0] <= count_max:
        raise ValueError(f"samples come first in the shape, 1 to {count_max}, got {tensor.shape}")


def _read_images(tensor: RequestTensor, binary: memoryview | None) -> list[bytes]:
    images = [_read_base64(text) for text in tensor.data or ()] if binary is None else list(_cut(binary))
    if tensor.shape != [len(images)]:
        raise ValueError(f"{len(images)} images do not have the shape {tensor.shape}")
    return images


def _read_numbers(tensor: RequestTensor, binary: memoryview | None) -> Array:
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise ValueError(f"samples of {tensor.datatype} are not known here")
    values = np.asarray(tensor.data) if binary is None else np.frombuffer(binary, dtype)
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise ValueError("every element must be a finite number")
    return values.reshape(tensor.shape)


def _cut(binary: memoryview) -> Iterator[bytes]:
    """Each element is its length in four bytes, little-endian, and then itself (Triton's extension)."""
    while binary:
        if len(binary) < _LENGTH.size or len(binary) - _LENGTH.size < _LENGTH.unpack_from(binary)[0]:
            raise ValueError("the bytes end within an element")
        end = _LENGTH.size + _LENGTH.unpack_from(binary)[0]
        yield bytes(binary[_LENGTH.size : end])
        binary = binary[end:]


def _read_base64(text: Any) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as exc:
        raise ValueError(f"an image in JSON is base64: {exc}") from exc
