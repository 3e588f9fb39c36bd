"""Samples in requests: what the contract's preprocessing turns into tensors.

An input whose parameters say ``"preprocess": true`` is not the model's own tensor but a sample as it
was before preprocessing: encoded images (datatype BYTES, in JSON as base64), or numbers of any
datatype, to be scaled and quantized as the contract says.
"""

import binascii
from base64 import b64decode
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_agent.worker.pictures import prepare_pictures
from fleet_agent.worker.tensors import dequantize, prepare
from fleet_shared.manifest import Preprocessing

BYTES: Final = "BYTES"
BATCH_MAX: Final = 256


def prepare_request(
    datatype: str, shape: Sequence[int], data: Sequence[Any], preprocessing: Preprocessing, info: TensorInfo
) -> Array:
    """Return the samples of a request as a batch of the model's input.

    ``shape``: the batch first; of images, nothing else. Raises `ValueError` for what is no sample,
    `WorkerError` for one that does not fit the model.
    """
    if not shape or not 1 <= shape[0] <= BATCH_MAX:
        raise ValueError(f"samples come first in the shape, 1 to {BATCH_MAX} of them, got {list(shape)}")
    if datatype == BYTES:
        if len(shape) != 1 or len(data) != shape[0]:
            raise ValueError(f"{len(data)} images do not have the shape {list(shape)}")
        return prepare_pictures([_read_base64(text) for text in data], preprocessing, info)
    samples = np.asarray(data)
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


def _read_base64(text: Any) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as exc:
        raise ValueError(f"an image in JSON is base64: {exc}") from exc
