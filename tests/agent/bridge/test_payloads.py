"""From messages to requests."""

import json
import struct
from typing import Any

import pytest

from fleet_agent.bridge.payloads import ModelInfo, PayloadError, TensorInfo, read_payload
from fleet_agent.bridge.settings import Route

ONE = ModelInfo(["1.0.0"], [TensorInfo("x", "INT8", [-1, 2, 2])], [])
TWO = ModelInfo(["1.0.0"], [TensorInfo("a", "FP32", [-1, 2]), TensorInfo("b", "FP32", [-1, 1])], [])


def route(format_: Any = "json", *, preprocess: bool = True) -> Route:
    return Route(input="i", output="o", errors="e", model="m", format=format_, preprocess=preprocess)


def tensors(payload: bytes, route_: Route, info: ModelInfo = ONE) -> list[dict[str, Any]]:
    document = read_payload(payload, route_, info).document
    assert document["parameters"] == {"classify": True}
    inputs: list[dict[str, Any]] = document["inputs"]
    return inputs


SAMPLE = {"parameters": {"preprocess": True}}


@pytest.mark.parametrize("text", ["[1, 2.5, 3, 4]", "[[1, 2.5], [3, 4]]", '{"data": [[[1, 2.5]], [[3, 4]]]}'])
def test_json_is_a_sample_that_the_worker_prepares(text: str) -> None:
    expected = {"name": "x", "datatype": "FP64", "shape": [1, 4], "data": [1, 2.5, 3, 4]}
    assert tensors(text.encode(), route()) == [{**expected, **SAMPLE}]


def test_json_without_preprocessing_is_the_model_s_own() -> None:
    expected = {"name": "x", "datatype": "INT8", "shape": [1, 2, 2], "data": [1, 2, 3, 4]}
    assert tensors(b"[1, 2, 3, 4]", route(preprocess=False)) == [expected]


@pytest.mark.parametrize("id_", ["a", 7, None])
def test_the_id_and_inputs_by_name(id_: object) -> None:
    payload = json.dumps({"id": id_, "inputs": {"b": [3], "a": [1, 2]}}).encode()
    request = read_payload(payload, route(preprocess=False), TWO)
    assert request.id == id_
    assert {tensor["name"]: tensor["data"] for tensor in request.document["inputs"]} == {
        "a": [1, 2],
        "b": [3],
    }


def test_images_and_tensors() -> None:
    assert tensors(b"\xff\xd8", route("image")) == [
        {"name": "x", "datatype": "BYTES", "shape": [1], "data": ["/9g="], **SAMPLE}
    ]
    assert tensors(b"\x01\xff\x80\x7f", route("tensor")) == [
        {"name": "x", "datatype": "INT8", "shape": [1, 2, 2], "data": [1, -1, -128, 127]}
    ]
    floats = ModelInfo(["1"], [TensorInfo("x", "FP32", [1, 2])], [])
    (tensor,) = tensors(struct.pack("<2f", 0.5, -2.0), route("tensor"), floats)
    assert (tensor["datatype"], tensor["shape"], tensor["data"]) == ("FP32", [1, 2], [0.5, -2.0])


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "no sample"),
        (b"\xff", "no sample"),
        (b"7", "no sample"),
        (b"[" * 2000, "no sample"),
        (b'{"data": 7}', "no sample"),
        (b"{}", "and not both"),
        (b'{"data": [1], "inputs": {"x": [1]}}', "and not both"),
        (b'{"inputs": {"y": [1]}}', "takes the inputs"),
        (b'["a"]', "'a' is no number"),
        (b"[null]", "None is no number"),
        (b"[" * 30 + b"1" + b"]" * 30, "nested"),
    ],
)
def test_what_is_no_sample(payload: bytes, words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        read_payload(payload, route(), ONE)


@pytest.mark.parametrize(("info", "payload"), [(ONE, b"123"), (TWO, b"12345678")])
def test_what_is_no_tensor(info: ModelInfo, payload: bytes) -> None:
    with pytest.raises(PayloadError):
        read_payload(payload, route("tensor"), info)
