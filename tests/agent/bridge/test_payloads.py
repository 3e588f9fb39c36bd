"""From messages to requests."""

import json
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
    expected = {"name": "x", "datatype": "INT8", "shape": [1, 2, 2], "parameters": {}, "data": [1, 2, 3, 4]}
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


def test_images_and_tensors_follow_as_they_are() -> None:
    image = read_payload(b"\xff\xd8", route("image"), ONE)
    assert image.document["inputs"] == [
        {
            "name": "x", "datatype": "BYTES", "shape": [1],
            "parameters": {"binary_data_size": 6, "preprocess": True},
        }
    ]  # fmt: skip
    assert image.binary == b"\x02\0\0\0\xff\xd8"
    tensor = read_payload(b"1234", route("tensor"), ONE)
    assert tensor.document["inputs"] == [
        {"name": "x", "datatype": "INT8", "shape": [1, 2, 2], "parameters": {"binary_data_size": 4}}
    ]
    assert tensor.binary == b"1234"


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


@pytest.mark.parametrize("format_", ["tensor", "image"])
def test_a_model_of_two_inputs_takes_json_only(format_: str) -> None:
    with pytest.raises(PayloadError, match="2 inputs"):
        read_payload(b"12345678", route(format_), TWO)
