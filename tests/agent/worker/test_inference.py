"""The protocol over a real model, without sockets; golden vectors that must and must not pass."""

import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from fleet_agent.worker.engine import Engine, SelfTestFailed
from fleet_agent.worker.oip import Protocol
from fleet_agent.worker.protocol import Failed, FromWorker
from fleet_agent.worker.statistics import RESERVOIR, Statistics, percentile
from fleet_agent.worker.tensor_data import BadRequest
from fleet_agent.worker.tensors import preprocess, quantize
from fleet_shared.manifest import Preprocessing, Quantization
from fleet_shared.messages.reported import Failure
from tests.kit.engine import edit_golden, load_engine, package_of, write_slot
from tests.kit.packages import LABELS
from tests.kit.tiny_model import make_sum_and_product


def make_engine(folder: Path, statistics: Statistics | None = None, *, spoil: bool = False) -> Engine:
    write_slot(folder)
    if spoil:
        edit_golden(folder, "output_0", lambda recorded: recorded[::-1].copy())
    return load_engine(folder, statistics)


def request(**changes: Any) -> bytes:
    tensor = {"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [0.5] * 8}
    return msgspec.json.encode({"id": "42", "inputs": [{**tensor, **changes}]})


def ask(protocol: Protocol, body: bytes) -> dict[str, Any]:
    """Return the answer to a request without binary tensors."""
    reply = protocol.infer(body)
    assert not reply.binary
    document: dict[str, Any] = json.loads(reply.document)
    return document


def test_the_golden_vectors_pass_on_the_runtime_that_made_them(tmp_path: Path) -> None:
    test = make_engine(tmp_path).prove()
    assert test.samples == 16
    assert test.max_difference <= test.tolerance


def test_other_outputs_than_recorded_fail_with_the_evidence(tmp_path: Path) -> None:
    with pytest.raises(SelfTestFailed) as caught:
        make_engine(tmp_path, spoil=True).prove()
    assert caught.value.code == "worker.golden.failed"
    assert caught.value.test.max_difference > caught.value.test.tolerance


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_numbers_fail_and_the_evidence_can_be_told(tmp_path: Path, value: float) -> None:
    write_slot(tmp_path)
    edit_golden(tmp_path, "output_0", lambda recorded: np.full_like(recorded, value))
    with pytest.raises(SelfTestFailed, match="not numbers") as caught:
        load_engine(tmp_path).prove()
    told = Failed(failure=Failure.of(caught.value), self_test=caught.value.test)
    read = msgspec.json.decode(msgspec.json.encode(told), type=FromWorker)
    assert read == told


def test_several_inputs_and_outputs_in_a_batch(tmp_path: Path) -> None:
    shape = (1, 3)
    write_slot(tmp_path, package_of(make_sum_and_product(shape), [shape, shape]))
    engine = load_engine(tmp_path)
    assert engine.prove().samples > 0
    protocol = Protocol(engine)
    a, b = np.arange(6.0).reshape(2, 3), np.full((2, 3), 2.0)
    names = [info.name for info in engine.model.inputs]
    tensors = [
        {"name": name, "shape": [2, 3], "datatype": "FP32", "data": array.tolist()}
        for name, array in zip(names, (a, b), strict=True)
    ]
    answer = ask(protocol, msgspec.json.encode({"inputs": tensors[::-1]}))
    first, second = answer["outputs"]
    assert first["data"] == (a + b).ravel().tolist()
    assert second["data"] == (a * b).ravel().tolist()
    assert first["shape"] == second["shape"] == [2, 3]
    only = ask(protocol, msgspec.json.encode({"inputs": tensors, "outputs": [{"name": second["name"]}]}))
    assert only["outputs"] == [second]
    uneven = [tensors[0], {**tensors[1], "shape": [1, 3], "data": [1.0] * 3}]
    with pytest.raises(BadRequest, match="same batch size"):
        protocol.infer(msgspec.json.encode({"inputs": uneven}))
    with pytest.raises(BadRequest, match="inputs must be"):
        protocol.infer(msgspec.json.encode({"inputs": [*tensors, tensors[0]]}))


def test_metadata_and_inference(tmp_path: Path) -> None:
    protocol = Protocol(make_engine(tmp_path))
    assert protocol.model_metadata()["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}]
    answer = ask(protocol, request())
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "tiny", "1.0.0")
    (output,) = answer["outputs"]
    assert output["shape"] == [1, 4]
    assert sum(output["data"]) == pytest.approx(1.0)


def test_a_batch_gives_what_its_samples_give_alone(tmp_path: Path) -> None:
    protocol = Protocol(make_engine(tmp_path))
    samples = np.random.default_rng(5).normal(size=(3, 8))
    alone = [ask(protocol, request(data=sample.tolist()))["outputs"][0]["data"] for sample in samples]
    for data in (samples.tolist(), samples.ravel().tolist()):
        together = ask(protocol, request(shape=[3, 8], data=data))["outputs"][0]
        assert together["shape"] == [3, 4]
        assert together["data"] == pytest.approx([value for row in alone for value in row])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "z"}, "inputs must be"),
        ({"datatype": "INT8"}, "must be FP32"),
        ({"shape": [1, 7]}, "must have shape"),
        ({"shape": [0, 8]}, "must have shape"),
        ({"shape": [257, 8]}, "at most 256"),
        ({"shape": []}, "must have shape"),
        ({"shape": [8]}, "must have shape"),
        ({"shape": [-1, 8]}, "must have shape"),
        ({"data": [1e300] * 8}, "must fit float32"),
        ({"data": [10**400] * 8}, "does not parse|data of input"),
        ({"data": [0.5] * 7}, "data of input"),
        ({"data": ["a"] * 8}, "data of input"),
        ({"data": None}, "neither data"),
    ],
)
def test_bad_requests_say_what_was_expected(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    protocol = Protocol(make_engine(tmp_path))
    with pytest.raises(BadRequest, match=words):
        protocol.infer(request(**changes))


def test_an_unknown_output_and_garbage_are_refused(tmp_path: Path) -> None:
    protocol = Protocol(make_engine(tmp_path))
    document = {**json.loads(request()), "outputs": [{"name": "nothing"}]}
    with pytest.raises(BadRequest, match="no output"):
        protocol.infer(json.dumps(document).encode())
    for garbage in (b"", b"{}", b"[]", b"\xff"):
        with pytest.raises(BadRequest):
            protocol.infer(garbage)


def test_what_was_served_is_counted(tmp_path: Path) -> None:
    statistics = Statistics(Random(1))
    engine = make_engine(tmp_path, statistics)
    inputs = [np.zeros((1, 8), np.float32)]
    name = LABELS[int(engine.infer(inputs)[0].argmax())]
    engine.infer(inputs, label=name)
    engine.infer(inputs, label="never")
    window = statistics.take()
    assert (window.requests, window.errors, window.labelled, window.correct) == (3, 0, 2, 1)
    assert window.classes == {name: 3}
    assert statistics.take().requests == 0


def test_latencies_stay_bounded_and_percentiles_are_nearest_rank() -> None:
    statistics = Statistics(Random(1))
    for value in range(3 * RESERVOIR):
        statistics.add(float(value))
    window = statistics.take()
    assert window.requests == 3 * RESERVOIR
    assert len(window.latencies_us) == RESERVOIR
    median = percentile(window.latencies_us, 0.5)
    assert median is not None
    assert abs(median - 1.5 * RESERVOIR) < 0.1 * 3 * RESERVOIR
    hundred = [float(value) for value in range(1, 101)]
    assert [percentile(hundred, share) for share in (0.0, 0.5, 0.9, 0.99, 1.0)] == [1, 50, 90, 99, 100]
    assert [percentile([1, 2, 3, 4], share) for share in (0.25, 0.26, 0.5, 0.51)] == [1, 2, 2, 3]
    assert percentile([7], 0.99) == 7
    assert percentile([], 0.5) is None


def test_inputs_are_scaled_quantized_half_to_even_and_saturated(tmp_path: Path) -> None:
    info = make_engine(tmp_path).model.inputs[0]
    real = preprocess(np.full(8, 8, np.uint8), Preprocessing(scale=1 / 16, offset=1.0), info)
    assert real.shape == (1, 8)
    assert real.tolist() == [[1.5] * 8]
    from dataclasses import replace

    quantized = replace(info, dtype=np.dtype(np.int8), quantization=Quantization(scale=0.5, zero_point=10))
    values = np.array([0.25, 0.75, -0.25, 1000, -1000], np.float32)
    assert quantize(values, quantized).tolist() == [10, 12, 10, 127, -128]


def test_a_label_counts_only_where_there_is_a_class_to_compare_it_with() -> None:
    statistics = Statistics(Random(1))
    statistics.add(1.0, name=None, label="cat")
    statistics.add(1.0, name="cat", label="cat")
    window = statistics.take()
    assert (window.requests, window.labelled, window.correct) == (2, 1, 1)
