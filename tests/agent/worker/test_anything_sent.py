"""Whatever a client sends, it gets an answer that says what is wrong: never a defect, never silence."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_agent.worker.http1 import Refused, parse_head
from fleet_agent.worker.oip import Protocol
from fleet_agent.worker.routes import Routes
from tests.kit.engine import load_engine, write_slot

HEAD = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s"
REQUEST: dict[str, Any] = {
    "id": "1",
    "parameters": {"binary_data_output": True, "mine": 1},
    "inputs": [
        {
            "name": "x",
            "shape": [1, 8],
            "datatype": "FP32",
            "parameters": {"binary_data_size": 32},
            "data": None,
        }
    ],
    "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
}
BINARY = np.full(8, 0.5, np.float32).tobytes()

Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@cache
def routes() -> Routes:
    with TemporaryDirectory() as folder:
        return Routes(Protocol(load_engine(write_slot(Path(folder)))))


def send(body: bytes, headers: bytes) -> int:
    """Return the status of the answer, whose sentence is there if it is an error."""
    try:
        head = parse_head(HEAD % (len(body), headers))
    except Refused as exc:
        return exc.status if str(exc) else 0
    answer = routes().answer(head, memoryview(body))
    if answer.status != 200:
        assert json.loads(answer.body[0])["error"]
    return answer.status


def find_places(node: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [place, *(found for key in keys for found in find_places(node[key], (*place, key)))]


def replace(node: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[place[0]] = replace(node[place[0]], place[1:], value)
    return copy


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(find_places(REQUEST)), value=Json, length=st.integers(-1, 400) | st.none())
def test_any_other_value_anywhere_in_a_request(
    place: tuple[Any, ...], value: Any, length: int | None
) -> None:
    document = json.dumps(replace(REQUEST, place, value)).encode()
    size = len(document) if length is None else length
    assert send(document + BINARY, b"Inference-Header-Content-Length: %d" % size) in {200, 400}


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200), headers=st.binary(max_size=100))
def test_any_bytes(body: bytes, headers: bytes) -> None:
    assert send(body, headers) in {400, 411, 413, 415, 417, 431}


@settings(max_examples=300, deadline=None)
@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(["Content-Encoding", "Inference-Header-Content-Length", "Connection", "Expect"]),
            st.sampled_from(
                ["gzip", "deflate", "identity", "br", "0", "1", "32", "close", "100-continue", ""]
            )
            | st.text("0123456789-+ ,", max_size=5),
        ),
        max_size=4,
    )
)
def test_any_headers_over_a_raw_tensor(headers: list[tuple[str, str]]) -> None:
    lines = "\r\n".join(f"{name}: {value}" for name, value in headers).encode()
    assert send(BINARY, lines) in {200, 400, 415, 417}


def test_the_request_itself_is_right() -> None:
    document = json.dumps(REQUEST).encode()
    assert send(document + BINARY, b"Inference-Header-Content-Length: %d" % len(document)) == 200
