"""Requests and answers of the protocol with its extensions, over real models and without sockets."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import TensorInfo
from fleet_agent.worker.datatypes import check_datatypes
from fleet_agent.worker.oip import Protocol, Reply
from fleet_agent.worker.tensor_data import BadRequest, RequestTensor, TensorParameters, read_raw, read_tensor
from tests.kit.engine import hold, load_engine, package_of, write_slot
from tests.kit.tiny_model import make_sum_and_product

ONE = np.full((1, 8), 0.5, np.float32)


@pytest.fixture
def protocol(tmp_path: Path) -> Protocol:
    return Protocol(load_engine(write_slot(tmp_path)))


@pytest.fixture
def two(tmp_path: Path) -> Protocol:
    """A model of two inputs, ``a`` and ``b``, and two outputs, ``sum`` and ``product``."""
    package = package_of(make_sum_and_product((1, 3)), [(1, 3), (1, 3)])
    return Protocol(load_engine(write_slot(tmp_path, package)))


def describe(name: str, array: NDArray[Any], *, binary: bool, **changes: Any) -> dict[str, Any]:
    data = {"parameters": {"binary_data_size": array.nbytes}} if binary else {"data": array.ravel().tolist()}
    return {"name": name, "shape": list(array.shape), "datatype": "FP32", **data, **changes}


def ask(protocol: Protocol, document: dict[str, Any], *binary: bytes) -> Reply:
    head = json.dumps(document).encode()
    return protocol.infer(head + b"".join(binary), len(head) if binary else None)


def read(reply: Reply) -> dict[str, NDArray[Any]]:
    """Return the outputs of a reply, wherever they stand."""
    rest = list(reply.binary)
    arrays = {}
    for output in json.loads(reply.document)["outputs"]:
        if "data" in output:
            array = np.array(output["data"], np.float32)
        else:
            content = rest.pop(0)
            assert output["parameters"]["binary_data_size"] == len(content)
            array = np.frombuffer(content, np.float32)
        arrays[output["name"]] = array.reshape(output["shape"])
    assert not rest
    return arrays


def test_all_ways_of_asking_give_the_same_answer(protocol: Protocol) -> None:
    wanted = read(ask(protocol, {"inputs": [describe("x", ONE, binary=False)]}))["y"]
    for binary_in in (False, True):
        for parameters, binary_out in (
            ({}, False),
            ({"binary_data_output": True}, True),
            ({"binary_data_output": False}, False),
        ):
            document = {"inputs": [describe("x", ONE, binary=binary_in)], "parameters": parameters}
            reply = ask(protocol, document, *([ONE.tobytes()] if binary_in else []))
            assert bool(reply.binary) is binary_out
            np.testing.assert_array_equal(read(reply)["y"], wanted)
    raw = protocol.infer(ONE.tobytes(), 0)
    assert raw.binary, "who sends nothing but bytes is answered in bytes"
    np.testing.assert_array_equal(read(raw)["y"], wanted)


def test_what_an_output_asks_for_goes_before_what_the_request_asks_for(two: Protocol) -> None:
    a, b = np.array([[1, 2, 3]], np.float32), np.array([[4, 5, 6]], np.float32)
    document = {
        "inputs": [describe("b", b, binary=True), describe("a", a, binary=False)],
        "outputs": [{"name": "product", "parameters": {"binary_data": False}}, {"name": "sum"}],
        "parameters": {"binary_data_output": True},
    }
    reply = ask(two, document, b.tobytes())
    assert [("data" in output, output["name"]) for output in json.loads(reply.document)["outputs"]] == [
        (True, "product"),
        (False, "sum"),
    ]
    outputs = read(reply)
    np.testing.assert_array_equal(outputs["sum"], a + b)
    np.testing.assert_array_equal(outputs["product"], a * b)


def test_binary_tensors_follow_each_other_in_the_order_of_the_request(two: Protocol) -> None:
    a, b = np.array([[1, 2, 3], [7, 8, 9]], np.float32), np.array([[4, 5, 6], [1, 1, 2]], np.float32)
    inputs = [describe("b", b, binary=True), describe("a", a, binary=True)]
    document = {"inputs": inputs, "outputs": [{"name": "sum", "parameters": {"binary_data": True}}]}
    outputs = read(ask(two, document, b.tobytes(), a.tobytes()))
    np.testing.assert_array_equal(outputs["sum"], a + b)
    assert list(outputs) == ["sum"]


def test_id_and_parameters_come_back(protocol: Protocol) -> None:
    document = {
        "id": "7",
        "inputs": [describe("x", ONE, binary=False)],
        "parameters": {"mine": "ä", "timeout": 5, "share": 0.5, "on": True, "binary_data_output": False},
    }
    answer = json.loads(ask(protocol, document).document)
    assert answer["id"] == "7"
    assert answer["parameters"] == {"mine": "ä", "timeout": 5, "share": 0.5, "on": True}
    assert "id" not in json.loads(ask(protocol, {"inputs": document["inputs"]}).document)


@pytest.mark.parametrize(
    ("changes", "binary", "words"),
    [
        ({}, b"", "need the header"),
        ({}, bytes(31), "has 32 bytes|have 32 bytes"),
        ({}, bytes(33), "have 32 bytes"),
        ({"parameters": {"binary_data_size": 31}}, bytes(31), "has 32 bytes, got 31"),
        ({"parameters": {"binary_data_size": -32}}, bytes(32), "have -32 bytes"),
        ({"parameters": {"binary_data_size": "32"}}, bytes(32), "does not parse"),
        ({"parameters": {"binary_data_size": 1 << 70}}, bytes(32), "and 32 follow the JSON"),
        ({"data": [0.5] * 8}, bytes(32), "both data and"),
        ({"parameters": {}}, b"", "neither data nor"),
        ({"datatype": "BYTES"}, bytes(32), "neither BYTES nor BF16"),
        ({"datatype": "BF16"}, bytes(32), "neither BYTES nor BF16"),
        ({"parameters": {"shared_memory_region": "r"}}, b"", "shared memory"),
        ({"shape": [2, 8]}, bytes(32), "has 64 bytes, got 32"),
        ({"shape": [1 << 62, 8]}, bytes(32), "at most 256"),
    ],
)
def test_binary_data_that_does_not_fit_says_why(
    protocol: Protocol, changes: dict[str, Any], binary: bytes, words: str
) -> None:
    document = {"inputs": [describe("x", ONE, binary=True, **changes)]}
    with pytest.raises(BadRequest, match=words):
        ask(protocol, document, *([binary] if binary else []))


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([{"name": "z"}], "no output 'z'"),
        ([{"name": "y"}, {"name": "y"}], "twice"),
        ([{"name": "y", "parameters": {"classification": 3}}], "classification is not served"),
        ([{"name": "y", "parameters": {"shared_memory_region": "r"}}], "shared memory"),
        ([{"name": "y", "parameters": {"binary_data": 1}}], "does not parse"),
    ],
)
def test_outputs_that_cannot_be_given_are_refused_before_the_model_runs(
    protocol: Protocol, outputs: list[dict[str, Any]], words: str
) -> None:
    model = hold(protocol.engine)
    with pytest.raises(BadRequest, match=words):
        ask(protocol, {"inputs": [describe("x", ONE, binary=False)], "outputs": outputs})
    assert model.calls == 0


def test_a_raw_request_is_for_one_input_and_whole_samples(protocol: Protocol, two: Protocol) -> None:
    three = np.repeat(ONE, 3, axis=0)
    assert read(protocol.infer(three.tobytes(), 0))["y"].shape == (3, 4)
    for length in (0, 31, 33, 257 * 32):
        with pytest.raises(BadRequest):
            protocol.infer(bytes(length), 0)
    with pytest.raises(BadRequest, match="one input"):
        two.infer(bytes(24), 0)


def test_deep_nesting_and_a_length_of_json_that_cuts_it_are_refused(protocol: Protocol) -> None:
    deep = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": ' + b"[" * 100_000
    with pytest.raises(BadRequest):
        protocol.infer(deep)
    whole = json.dumps({"inputs": [describe("x", ONE, binary=False)]}).encode()
    with pytest.raises(BadRequest, match="does not parse"):
        protocol.infer(whole, len(whole) - 1)


def test_every_request_counts_once_and_its_times_add_up(protocol: Protocol) -> None:
    model = hold(protocol.engine)

    def count() -> dict[str, Any]:
        (stats,) = protocol.statistics()["model_stats"]
        assert (stats["name"], stats["version"]) == ("tiny", "1.0.0")
        found: dict[str, Any] = stats
        return found

    assert count()["batch_stats"] == []
    three = np.repeat(ONE, 3, axis=0)
    for array in (ONE, three):
        ask(protocol, {"inputs": [describe("x", array, binary=True)]}, array.tobytes())
    with pytest.raises(BadRequest):
        protocol.infer(b"{}")
    model.failures = [WorkerError("no")]
    with pytest.raises(WorkerError):
        protocol.infer(ONE.tobytes(), 0)
    protocol.engine.infer([ONE])  # the agent's own source
    stats = count()
    times = stats["inference_stats"]
    assert (stats["inference_count"], stats["execution_count"]) == (5, 5)
    assert {name: part["count"] for name, part in times.items()} == {
        "success": 3, "fail": 2, "queue": 3, "compute_input": 3, "compute_infer": 3, "compute_output": 3,
        "cache_hit": 0, "cache_miss": 0,
    }  # fmt: skip
    parts = sum(times[name]["ns"] for name in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert 0 < parts <= times["success"]["ns"]
    (batch,) = stats["batch_stats"]
    assert (batch["batch_size"], batch["compute_infer"]["count"]) == (1, 5)
    assert stats["last_inference"] > 1_500_000_000_000


def info(dtype: str, shape: tuple[int, ...] = (1, 2)) -> TensorInfo:
    return TensorInfo("x", np.dtype(dtype), shape, None)


@pytest.mark.parametrize(
    ("dtype", "datatype", "packed", "data"),
    [
        ("bool", "BOOL", b"\1\0", [True, False]),
        ("bool", "BOOL", b"\1\0", [1, 0]),
        ("uint8", "UINT8", b"\xff\1", [255, 1]),
        ("int8", "INT8", b"\xff\1", [-1, 1]),
        ("uint16", "UINT16", struct.pack("<2H", 65535, 1), [65535, 1]),
        ("int16", "INT16", struct.pack("<2h", -300, 1), [-300, 1]),
        ("uint32", "UINT32", struct.pack("<2I", 2**32 - 1, 1), [2**32 - 1, 1]),
        ("int32", "INT32", struct.pack("<2i", -(2**31), 1), [-(2**31), 1]),
        ("uint64", "UINT64", struct.pack("<2Q", 2**63, 1), [2**63, 1]),
        ("int64", "INT64", struct.pack("<2q", -(2**63), 1), [-(2**63), 1]),
        ("float16", "FP16", struct.pack("<2e", 0.5, -2), [0.5, -2]),
        ("float32", "FP32", struct.pack("<2f", 0.5, -2), [0.5, -2]),
        ("float64", "FP64", struct.pack("<2d", 0.1, -2), [0.1, -2]),
    ],
)
def test_every_type_is_read_from_bytes_and_from_numbers(
    dtype: str, datatype: str, packed: bytes, data: list[Any]
) -> None:
    binary = RequestTensor("x", [1, 2], datatype, parameters=TensorParameters(len(packed)))
    from_bytes = read_tensor(binary, info(dtype), memoryview(packed), rows=True)
    from_json = read_tensor(RequestTensor("x", [1, 2], datatype, data), info(dtype), None, rows=True)
    assert from_bytes.dtype == from_json.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(from_bytes, np.array([data], dtype))
    np.testing.assert_array_equal(from_json, np.array([data], dtype))


@pytest.mark.parametrize(
    ("dtype", "datatype", "data"),
    [
        ("bool", "BOOL", [2, 0]),
        ("int8", "INT8", [128, 0]),
        ("uint8", "UINT8", [-1, 0]),
        ("int8", "INT8", [0.5, 0]),
        ("uint64", "UINT64", [2**64, 0]),
        ("float16", "FP16", [1e6, 0]),
        ("float32", "FP32", [[1], [2, 3]]),
        ("float32", "FP32", [None, 1]),
        ("float32", "FP32", [{}, 1]),
    ],
)
def test_numbers_that_the_type_cannot_hold_are_refused(dtype: str, datatype: str, data: list[Any]) -> None:
    with pytest.raises(BadRequest, match="data of input"):
        read_tensor(RequestTensor("x", [1, 2], datatype, data), info(dtype), None, rows=True)


def test_a_byte_that_is_no_boolean_is_refused() -> None:
    tensor = RequestTensor("x", [1, 2], "BOOL", parameters=TensorParameters(2))
    with pytest.raises(BadRequest, match="0 or 1"):
        read_tensor(tensor, info("bool"), memoryview(b"\1\2"), rows=True)


def test_a_model_without_samples_on_its_first_axis_takes_its_own_shape_only(tmp_path: Path) -> None:
    shape = (2, 3)
    slot = write_slot(tmp_path, package_of(make_sum_and_product(shape), [shape, shape]))
    protocol = Protocol(load_engine(slot))
    assert [one["shape"] for one in protocol.model_metadata()["inputs"]] == [[2, 3], [2, 3]]
    a = np.arange(6, dtype=np.float32).reshape(shape)
    inputs = [describe(name, a, binary=True) for name in ("a", "b")]
    outputs = read(ask(protocol, {"inputs": inputs}, a.tobytes(), a.tobytes()))
    np.testing.assert_array_equal(outputs["product"], a * a)
    four = np.zeros((4, 3), np.float32)
    with pytest.raises(BadRequest, match=r"must have shape \[2, 3\]"):
        ask(protocol, {"inputs": [describe(name, four, binary=False) for name in ("a", "b")]})


def test_a_tensor_that_the_protocol_cannot_carry_is_refused_with_the_model() -> None:
    check_datatypes([info("int8")])
    with pytest.raises(WorkerError) as caught:
        check_datatypes([info("int8"), info("complex64")])
    assert caught.value.code == "worker.datatype"


def test_a_scalar_can_be_sent_as_nothing_but_its_bytes() -> None:
    info = TensorInfo("s", np.dtype(np.float32), (), None)
    array = read_raw(memoryview(np.float32(2.5).tobytes()), info, rows=False)
    assert (array.shape, float(array)) == ((), 2.5)
    with pytest.raises(BadRequest, match="4 bytes"):
        read_raw(memoryview(b""), info, rows=False)


def test_one_sample_as_bytes_is_taken_however_large_it_is(protocol: Protocol) -> None:
    held = hold(protocol.engine)
    for shape in ((1, 2000, 1500, 3), (1, 9_000_000)):
        info = TensorInfo("x", np.dtype(np.float32), shape, None)
        held.inputs = (info,)
        sample_bytes = 4 * int(np.prod(shape))
        assert sample_bytes < Protocol(protocol.engine).body_bytes_max < sample_bytes + 100_000
