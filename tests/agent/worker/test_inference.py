"""The protocol over a real model, without sockets; golden vectors that must and must not pass."""

import io
import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from fleet_agent.runtimes.litert import LiteRt
from fleet_agent.worker.engine import Engine, SelfTestFailed
from fleet_agent.worker.oip import BadRequest, Protocol
from fleet_agent.worker.slot import load_slot
from fleet_agent.worker.statistics import RESERVOIR, Statistics, percentile
from fleet_agent.worker.tensors import preprocess, quantize
from fleet_shared.manifest import Manifest, Preprocessing, Quantization, encode_manifest
from fleet_shared.names import ModelName, VariantName
from tests.kit.packages import LABELS, make_package


def make_engine(folder: Path, statistics: Statistics | None = None, *, spoil: bool = False) -> Engine:
    package = make_package()
    names = {"model": "model.tflite", "golden": "golden.npz", "labels": "labels.txt"}
    for role, content in package.blobs.items():
        (folder / names[role.value]).write_bytes(content)
    if spoil:
        with np.load(folder / "golden.npz") as archive:
            arrays = dict(archive)
        arrays["output_0"] = arrays["output_0"][::-1].copy()
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        (folder / "golden.npz").write_bytes(buffer.getvalue())
    manifest = Manifest(
        model=ModelName("tiny"), version="1.0.0", variant=VariantName("fp32"), contract=package.contract,
        blobs=package.refs,
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return Engine(load_slot(folder), LiteRt(), 1, statistics or Statistics(Random(1)))


def request(**changes: Any) -> bytes:
    tensor = {"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [0.5] * 8}
    return msgspec.json.encode({"id": "42", "inputs": [{**tensor, **changes}]})


def test_the_golden_vectors_pass_on_the_runtime_that_made_them(tmp_path: Path) -> None:
    test = make_engine(tmp_path).prove()
    assert test.samples == 16
    assert test.max_difference <= test.tolerance


def test_other_outputs_than_recorded_fail_with_the_evidence(tmp_path: Path) -> None:
    with pytest.raises(SelfTestFailed) as caught:
        make_engine(tmp_path, spoil=True).prove()
    assert caught.value.code == "worker.golden.failed"
    assert caught.value.test.max_difference > caught.value.test.tolerance


def test_metadata_and_inference(tmp_path: Path) -> None:
    protocol = Protocol(make_engine(tmp_path))
    assert protocol.model_metadata()["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}]
    answer = protocol.infer(request())
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "tiny", "1.0.0")
    (output,) = answer["outputs"]
    assert output["shape"] == [1, 4]
    assert sum(output["data"]) == pytest.approx(1.0)


def test_a_batch_gives_what_its_samples_give_alone(tmp_path: Path) -> None:
    protocol = Protocol(make_engine(tmp_path))
    samples = np.random.default_rng(5).normal(size=(3, 8))
    alone = [protocol.infer(request(data=sample.tolist()))["outputs"][0]["data"] for sample in samples]
    for data in (samples.tolist(), samples.ravel().tolist()):
        together = protocol.infer(request(shape=[3, 8], data=data))["outputs"][0]
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
        ({"data": [0.5] * 7}, "data of input"),
        ({"data": ["a"] * 8}, "data of input"),
        ({"data": None}, "does not parse"),
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
    assert percentile([1, 2, 3, 4], 0.5) == 3
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
