"""Samples in requests: images and numbers that the worker preprocesses as the contract says."""

import io
import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fleet_agent.worker.oip import Protocol
from fleet_agent.worker.tensor_data import BadRequest
from tests.kit.engine import load_engine, package_of, write_slot
from tests.kit.packages import LABELS
from tests.kit.tiny_model import make_image_classifier

PIXELS = np.random.default_rng(3).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return b64encode(buffer.getvalue()).decode()


@pytest.fixture
def protocol(tmp_path: Path) -> Protocol:
    model = package_of(make_image_classifier(4, 6, 3), [(1, 4, 6, 3)], colour="rgb")
    return Protocol(load_engine(write_slot(tmp_path, model)))


def ask(protocol: Protocol, tensor: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    request = {"inputs": [{"name": "x", **tensor}], "parameters": parameters}
    return json.loads(protocol.infer(json.dumps(request).encode()).document)  # type: ignore[no-any-return]


def ask_binary(protocol: Protocol, content: bytes, tensor: dict[str, Any]) -> dict[str, Any]:
    parameters = {"preprocess": True, "binary_data_size": len(content)}
    document = json.dumps({"inputs": [{"name": "x", **tensor, "parameters": parameters}]}).encode()
    return json.loads(protocol.infer(document + content, len(document)).document)  # type: ignore[no-any-return]


def data_of(answer: dict[str, Any]) -> list[float]:
    return answer["outputs"][0]["data"]  # type: ignore[no-any-return]


PREPROCESS = {"parameters": {"preprocess": True}}


def test_images_and_raw_pixels_are_what_the_prepared_tensor_is(protocol: Protocol) -> None:
    real = (PIXELS.astype(np.float32) * np.float32(1 / 255)).ravel().tolist()
    own = ask(protocol, {"datatype": "FP32", "shape": [1, 4, 6, 3], "data": real})
    image = ask(protocol, {"datatype": "BYTES", "shape": [1], "data": [png(PIXELS)], **PREPROCESS})
    pixels = {"datatype": "UINT8", "shape": [1, 72], "data": PIXELS.ravel().tolist(), **PREPROCESS}
    assert data_of(image) == data_of(own) == data_of(ask(protocol, pixels))
    two = ask(protocol, {"datatype": "BYTES", "shape": [2], "data": [png(PIXELS)] * 2, **PREPROCESS})
    assert data_of(two) == data_of(own) * 2


def test_the_class_is_told_when_asked_for(protocol: Protocol) -> None:
    image = {"datatype": "BYTES", "shape": [1], "data": [png(PIXELS)], **PREPROCESS}
    assert "parameters" not in ask(protocol, image)
    answer = ask(protocol, image, classify=True, mine=1)
    scores = data_of(answer)
    assert answer["parameters"] == {
        "label": LABELS[int(np.argmax(scores))],
        "score": pytest.approx(max(scores)),
        "mine": 1,
    }


def test_binary_samples(protocol: Protocol) -> None:
    image = b64decode(png(PIXELS))
    expected = data_of(
        ask(protocol, {"datatype": "BYTES", "shape": [1], "data": [png(PIXELS)], **PREPROCESS})
    )
    framed = len(image).to_bytes(4, "little") + image
    assert data_of(ask_binary(protocol, framed, {"datatype": "BYTES", "shape": [1]})) == expected
    two = ask_binary(protocol, framed * 2, {"datatype": "BYTES", "shape": [2]})
    assert data_of(two) == expected * 2
    pixels = ask_binary(protocol, PIXELS.tobytes(), {"datatype": "UINT8", "shape": [1, 4, 6, 3]})
    assert data_of(pixels) == expected
    for cut in (framed[:3], framed[:-1], framed + b"12"):
        with pytest.raises(BadRequest, match="within an element"):
            ask_binary(protocol, cut, {"datatype": "BYTES", "shape": [1]})


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ({"datatype": "BYTES", "shape": [1], "data": ["%%"]}, "base64"),
        ({"datatype": "BYTES", "shape": [1], "data": [7]}, "base64"),
        ({"datatype": "BYTES", "shape": [1], "data": ["aGFsbG8="]}, "is no image"),
        ({"datatype": "BYTES", "shape": [2], "data": ["aGFsbG8="]}, "1 images"),
        ({"datatype": "BYTES", "shape": [], "data": []}, "samples come first"),
        ({"datatype": "FP32", "shape": [257, 1], "data": [0]}, "1 to 256"),
        ({"datatype": "FP32", "shape": [1, 2], "data": [1, 2]}, "does not fit"),
        ({"datatype": "FP32", "shape": [1, 2], "data": [1, 2, 3]}, "reshape"),
        ({"datatype": "FP32", "shape": [1, 2], "data": [1, None]}, "finite number"),
        ({"datatype": "FP32", "shape": [1, 2], "data": [[1], [1, 2]]}, "'x'"),
    ],
)
def test_what_is_no_sample_is_the_client_s_fault(
    protocol: Protocol, tensor: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        ask(protocol, {**tensor, **PREPROCESS})


def test_an_image_may_be_larger_than_the_tensor_that_it_becomes(protocol: Protocol) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    image = png(noise)
    assert len(image) > 2_000_000
    assert len(image) < protocol.body_bytes_max
    assert ask(protocol, {"datatype": "BYTES", "shape": [1], "data": [image], **PREPROCESS})["outputs"]
