"""Small files, judged with LiteRT."""

import base64
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.evaluation.judging import (
    Candidate,
    Questions,
    compare_files,
    judge,
    measure_accuracy,
)
from fleet_cloud.factory.evaluation.memory import measure_memory
from fleet_cloud.factory.evaluation.results import Evaluation
from fleet_cloud.factory.evaluation.running import make_inputs, run_outputs, time_files, time_on_peers
from fleet_cloud.factory.lite import LiteModel
from tests.kit.tiny_model import make_tiny_model

FILES = {"fp32": make_tiny_model(), "int8": make_tiny_model(int8=True)}
LABELS = ("ant", "bee", "cow", "doe")


def make_questions(count: int = 200) -> Questions:
    """Samples with the classes that the float model gives them, one of ten another one."""
    random = np.random.default_rng(2)
    real = random.uniform(-1, 1, size=(count, 8)).astype(np.float32)
    y = run_outputs(FILES["fp32"], real).argmax(axis=1)
    return Questions(real, np.where(random.random(count) < 0.1, (y + 1) % 4, y), "test", labels=LABELS)


@pytest.fixture(scope="module")
def judged() -> dict[str, Evaluation]:
    candidates = [Candidate(name, content, 36, 32) for name, content in FILES.items()]
    return {one.variant: one for one in judge(candidates, make_questions(), FILES["fp32"])}


def test_accuracy_is_that_of_the_file_sample_by_sample(judged: dict[str, Evaluation]) -> None:
    questions = make_questions()
    assert questions.y is not None
    for name, content in FILES.items():
        model = LiteModel(content)
        taken = [model.run([model.quantize(one[np.newaxis])])[0].argmax() for one in questions.real]
        right = np.array(taken) == questions.y
        found = judged[name]
        assert found.accuracy == pytest.approx(right.mean())
        assert found.accuracy == pytest.approx(measure_accuracy(content, questions))
        bits = np.unpackbits(np.frombuffer(base64.b64decode(found.right), np.uint8))[: len(right)]
        assert np.array_equal(bits.astype(bool), right)
        assert found.samples == questions.samples
        assert (found.parameters, found.operations) == (36, 32)


def test_the_float_model_agrees_with_itself(judged: dict[str, Evaluation]) -> None:
    itself, int8 = judged["fp32"].against_float, judged["int8"].against_float
    assert itself is not None
    assert itself.agreement is not None
    assert (itself.agreement.value, itself.difference_max) == (1, 0)
    assert int8 is not None
    assert 0 < int8.difference_max < 1
    assert compare_files(FILES["int8"], FILES["fp32"], make_questions()) == int8


def test_files_are_measured_and_weighed(judged: dict[str, Evaluation]) -> None:
    for name, content in FILES.items():
        found = judged[name]
        assert found.size.file_bytes == found.size.wire_bytes["identity"] == len(content)
        assert found.size.least_bytes <= len(content)
        assert found.latency is not None
        assert 0 < found.latency.p10_us <= found.latency.p50_us <= found.latency.p90_us
        assert found.memory.peak_bytes is not None
        assert len(content) <= found.memory.peak_bytes < 1_000_000
    assert judged["int8"].weights.distinct_max <= 255
    assert judged["fp32"].weights.values == judged["int8"].weights.values


def test_results_go_through_json(judged: dict[str, Evaluation]) -> None:
    for one in judged.values():
        assert msgspec.json.decode(msgspec.json.encode(one), type=Evaluation) == one


def test_without_samples_the_rest_is_known() -> None:
    content = FILES["int8"]
    (found,) = judge([Candidate("int8", content)], None, content)
    assert (found.samples, found.accuracy, found.against_float, found.right) == (None, None, None, "")
    assert found.latency is not None
    (empty,) = judge([Candidate("int8", content)], Questions(np.empty((0, 8), np.float32), None, "x"))
    assert empty.samples is None


def test_without_labels_agreement_is_known_and_accuracy_is_not() -> None:
    questions = make_questions()
    unlabelled = Questions(questions.real[:50], None, "unlabelled")
    (found,) = judge([Candidate("int8", FILES["int8"])], unlabelled, FILES["fp32"])
    assert found.accuracy is None
    assert found.against_float is not None
    assert found.against_float.drop is None
    assert found.against_float.agreement is not None
    with pytest.raises(ValueError, match="without labels"):
        measure_accuracy(FILES["int8"], unlabelled)


def test_regression_is_judged_by_its_errors() -> None:
    """The shares of the classes, taken for targets."""
    questions = make_questions()
    real, targets = questions.real[:40], run_outputs(FILES["fp32"], questions.real[:40]).astype(np.float64)
    asked = Questions(real, targets, "test", task="regression")
    fp32, int8 = judge([Candidate(name, FILES[name]) for name in ("fp32", "int8")], asked, FILES["fp32"])
    assert fp32.regression is not None
    assert (fp32.regression.mae.value, fp32.regression.r2) == (0, 1)
    assert int8.classification is None
    assert int8.regression is not None
    assert int8.regression.rmse.value == pytest.approx((-measure_accuracy(FILES["int8"], asked)) ** 0.5)
    assert int8.against_float is not None
    assert int8.against_float.drop is not None
    assert int8.against_float.drop.value == pytest.approx(int8.regression.rmse.value)


def test_files_take_turns_and_are_timed_as_often_as_asked() -> None:
    questions = make_questions()
    found = time_files({**FILES, "again": FILES["fp32"]}, questions.real, runs=40)
    assert {one.runs for one in found.values()} == {40}
    same = [found["fp32"].p50_us, found["again"].p50_us]
    assert max(same) / statistics.mean(same) < 1.5, "the same file takes as long as itself"
    (short,) = time_files({"fp32": FILES["fp32"]}, questions.real, runs=10_000, limit_s=0).values()
    assert short.runs == 4, "one round, the first of its block left out"


@dataclass
class Steady:
    """A runtime that takes longer at first, and then so many microseconds."""

    name: str
    us: float
    fails: bool = False

    def answer(self, content: bytes, samples: Sequence[Sequence[Any]]) -> list[list[Any]]:
        raise NotImplementedError

    def time(self, content: bytes, samples: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
        assert content in FILES.values()
        if self.fails:
            raise Invalid("killed by SIGILL", code="model.peer")
        return np.array([1.0] * 5 + [self.us * 1e-6] * (len(samples) - 5))


def test_other_runtimes_are_timed_once_they_are_warm() -> None:
    peers = [Steady("openvino", 12.5), Steady("tvm", 1, fails=True), Steady("unheard-of", 1)]
    inputs = make_inputs(FILES["int8"], make_questions().real)
    (found,) = time_on_peers(FILES["int8"], inputs, peers, runs=30)
    assert (found.runtime, found.runs) == ("openvino", 30)
    assert (found.p10_us, found.p50_us, found.p90_us) == pytest.approx((12.5, 12.5, 12.5))


def test_a_larger_model_takes_more_memory() -> None:
    """A dense layer of 4 MB: its weights are in the file, and packed once more at most."""
    large = measure_memory(make_tiny_model(classes=1000, features=1000))
    assert large is not None
    assert 4_000_000 <= large < 14_000_000
    assert measure_memory(b"no model") is None


def test_a_file_that_cannot_be_loaded_is_refused() -> None:
    with pytest.raises(Invalid, match="cannot load"):
        judge([Candidate("broken", b"\0\0\0\0TFL3")], make_questions())
