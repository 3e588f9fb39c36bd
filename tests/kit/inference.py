"""A client of the Open Inference Protocol, as any application would write one."""

import json
import urllib.request
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

DATATYPES = {"float32": "FP32", "int8": "INT8", "uint8": "UINT8"}


def infer(
    port: int, model: str, inputs: Sequence[tuple[str, NDArray[Any]]], timeout_s: float = 30
) -> dict[str, Any]:
    """Return the answer to one JSON request; raise `urllib.error.HTTPError` for a refusal."""
    request = {
        "inputs": [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": DATATYPES[array.dtype.name],
                "data": array.ravel().tolist(),
            }
            for name, array in inputs
        ]
    }
    return load(port, f"models/{model}/infer", json.dumps(request).encode(), timeout_s)


def load(port: int, path: str, body: bytes | None = None, timeout_s: float = 30) -> dict[str, Any]:
    """Return the document at ``/v2/path``."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/{path}", data=body)
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        document: dict[str, Any] = json.load(answer)
    return document
