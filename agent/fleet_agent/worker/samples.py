"""Samples in requests: what the contract's preprocessing turns into tensors.

An input whose parameters say ``"preprocess": true`` is not the model's own tensor but a sample as it
was before preprocessing: encoded images (datatype BYTES; in JSON as base64), or numbers of any
datatype, to be scaled and quantized as the contract says.
"""

import binascii
from base64 import b64decode
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_agent.worker.datatypes import DATATYPES
from fleet_agent.worker.pictures import prepare_pictures
from fleet_agent.worker.tensor_data import BATCH_MAX, RequestTensor
from fleet_agent.worker.tensors import dequantize, prepare
from fleet_shared.manifest import Preprocessing

BYTES: Final = "BYTES"
LENGTH_BYTES: Final = 4
_DTYPES: Final = MappingProxyType({name: np.dtype(dtype) for dtype, name in DATATYPES.items()})


def prepare_request(
    tensor: RequestTensor, binary: memoryview | None, preprocessing: Preprocessing, info: TensorInfo
) -> Array:
    """Return the samples of a request as a batch of the model's input.

    The tensor's shape has the batch first; of images, nothing else. ``binary``: its bytes, if they came
    behind the JSON. Raises `ValueError` for what is no sample, `WorkerError` for one that does not fit
    the model.
    """
    shape = tensor.shape
    if not shape or not 1 <= shape[0] <= BATCH_MAX:
        raise ValueError(f"samples come first in the shape, 1 to {BATCH_MAX} of them, got {shape}")
    if tensor.datatype == BYTES:
        images = _read_images(tensor, binary)
        if len(shape) != 1 or len(images) != shape[0]:
            raise ValueError(f"{len(images)} images do not have the shape {shape}")
        return prepare_pictures(images, preprocessing, info)
    samples = _read_numbers(tensor, binary)
    if samples.dtype.kind not in "biuf" or not np.isfinite(samples).all():
        raise ValueError("every element must be a finite number")
    return prepare(samples.reshape(tuple(shape)), preprocessing, info)


def find_class(
    outputs: Sequence[Array], infos: Sequence[TensorInfo], labels: Sequence[str]
) -> tuple[str, float] | None:
    """Return label and score (the output's real unit) of the best class; none unless the model's only
    output is one row of scores."""
    if len(outputs) != 1 or outputs[0].ndim != 2 or outputs[0].shape[0] != 1 or outputs[0].shape[1] < 2:
        return None
    scores = dequantize(outputs[0][0], infos[0])
    best = int(scores.argmax())
    return (labels[best] if best < len(labels) else str(best)), float(scores[best])


def _read_images(tensor: RequestTensor, binary: memoryview | None) -> list[bytes]:
    if binary is None:
        return [_read_base64(text) for text in tensor.data or ()]
    images = []
    while binary:  # each element: its length as four bytes, little-endian, then itself
        size = int.from_bytes(binary[:LENGTH_BYTES], "little")
        if len(binary) < LENGTH_BYTES + size:
            raise ValueError("an element of BYTES is shorter than its length says")
        images.append(bytes(binary[LENGTH_BYTES : LENGTH_BYTES + size]))
        binary = binary[LENGTH_BYTES + size :]
    return images


def _read_numbers(tensor: RequestTensor, binary: memoryview | None) -> Array:
    if binary is None:
        return np.asarray(tensor.data)
    if (dtype := _DTYPES.get(tensor.datatype)) is None:
        raise ValueError(f"samples cannot be {tensor.datatype}")
    return np.frombuffer(binary, dtype)


def _read_base64(text: Any) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as exc:
        raise ValueError(f"an image in JSON is base64: {exc}") from exc
