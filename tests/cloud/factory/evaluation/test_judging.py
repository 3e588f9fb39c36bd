"""Real files, judged with LiteRT."""

import base64
import statistics

import msgspec
import numpy as np
import pytest

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.data import load_splits
from fleet_cloud.factory.evaluation.judging import (
    Candidate,
    Questions,
    compare_files,
    judge,
    measure_accuracy,
)
from fleet_cloud.factory.evaluation.memory import measure_memory
from fleet_cloud.factory.evaluation.results import Evaluation
from fleet_cloud.factory.evaluation.running import run_outputs, time_files
from fleet_cloud.factory.lite import LiteModel
from fleet_shared.manifest import Role
from fleet_shared.pixels import to_real
from tests.cloud.factory.conftest import DigitsBuild


def files_of(digits: DigitsBuild) -> dict[str, bytes]:
    return {package.name: package.blobs[Role.MODEL] for package in digits.built.packages}


def questions_of(digits: DigitsBuild) -> Questions:
    splits = load_splits(digits.recipe.dataset, digits.recipe.training.seed)
    real = to_real(splits.test.x, splits.preprocessing)
    return Questions(real, splits.test.y, "test", labels=splits.labels)


@pytest.fixture(scope="module")
def judged(digits: DigitsBuild) -> dict[str, Evaluation]:
    files = files_of(digits)
    candidates = [Candidate(name, content, 9_000, 80_000) for name, content in files.items()]
    return {one.variant: one for one in judge(candidates, questions_of(digits), files["fp32"])}


def test_accuracy_is_that_of_the_file_sample_by_sample(
    digits: DigitsBuild, judged: dict[str, Evaluation]
) -> None:
    questions = questions_of(digits)
    assert questions.y is not None
    for name, content in files_of(digits).items():
        model = LiteModel(content)
        taken = [model.run([model.quantize(one[np.newaxis])])[0].argmax() for one in questions.real]
        right = np.array(taken) == questions.y
        found = judged[name]
        assert found.accuracy == pytest.approx(right.mean())
        assert found.accuracy == pytest.approx(measure_accuracy(content, questions))
        bits = np.unpackbits(np.frombuffer(base64.b64decode(found.right), np.uint8))[: len(right)]
        assert np.array_equal(bits.astype(bool), right)
        assert found.samples == questions.samples
        assert (found.parameters, found.operations) == (9_000, 80_000)


def test_the_float_model_agrees_with_itself(digits: DigitsBuild, judged: dict[str, Evaluation]) -> None:
    itself, int8 = judged["fp32"].against_float, judged["int8"].against_float
    assert itself is not None
    assert itself.agreement is not None
    assert (itself.agreement.value, itself.difference_max) == (1, 0)
    assert int8 is not None
    assert 0 < int8.difference_max < 1
    files = files_of(digits)
    assert compare_files(files["int8"], files["fp32"], questions_of(digits)) == int8


def test_files_are_measured_and_weighed(digits: DigitsBuild, judged: dict[str, Evaluation]) -> None:
    for name, content in files_of(digits).items():
        found = judged[name]
        assert found.size.file_bytes == found.size.wire_bytes["identity"] == len(content)
        assert found.size.least_bytes < len(content)
        assert found.latency is not None
        assert 0 < found.latency.p10_us <= found.latency.p50_us <= found.latency.p90_us
        assert found.memory.peak_bytes is not None
        assert len(content) <= found.memory.peak_bytes < 8 * len(content)
    assert judged["int8"].weights.distinct_max <= 255
    assert judged["fp32"].weights.values == judged["int8"].weights.values


def test_results_go_through_json(judged: dict[str, Evaluation]) -> None:
    for one in judged.values():
        assert msgspec.json.decode(msgspec.json.encode(one), type=Evaluation) == one


def test_without_samples_the_rest_is_known(digits: DigitsBuild) -> None:
    content = files_of(digits)["int8"]
    (found,) = judge([Candidate("int8", content)], None, content)
    assert (found.samples, found.accuracy, found.against_float, found.right) == (None, None, None, "")
    assert found.latency is not None
    (empty,) = judge([Candidate("int8", content)], Questions(np.empty((0, 8, 8, 1), np.float32), None, "x"))
    assert empty.samples is None


def test_without_labels_agreement_is_known_and_accuracy_is_not(digits: DigitsBuild) -> None:
    files, questions = files_of(digits), questions_of(digits)
    unlabelled = Questions(questions.real[:50], None, "unlabelled")
    (found,) = judge([Candidate("int8", files["int8"])], unlabelled, files["fp32"])
    assert found.accuracy is None
    assert found.against_float is not None
    assert found.against_float.drop is None
    assert found.against_float.agreement is not None
    with pytest.raises(ValueError, match="without labels"):
        measure_accuracy(files["int8"], unlabelled)


def test_regression_is_judged_by_its_errors(digits: DigitsBuild) -> None:
    """The shares of the classes, taken for targets."""
    files, questions = files_of(digits), questions_of(digits)
    real, targets = questions.real[:40], run_outputs(files["fp32"], questions.real[:40]).astype(np.float64)
    asked = Questions(real, targets, "test", task="regression")
    fp32, int8 = judge([Candidate(name, files[name]) for name in ("fp32", "int8")], asked, files["fp32"])
    assert fp32.regression is not None
    assert (fp32.regression.mae.value, fp32.regression.r2) == (0, 1)
    assert int8.classification is None
    assert int8.regression is not None
    assert int8.regression.rmse.value == pytest.approx((-measure_accuracy(files["int8"], asked)) ** 0.5)
    assert int8.against_float is not None
    assert int8.against_float.drop is not None
    assert int8.against_float.drop.value == pytest.approx(int8.regression.rmse.value)


def test_files_take_turns_and_are_timed_as_often_as_asked(digits: DigitsBuild) -> None:
    files, questions = files_of(digits), questions_of(digits)
    found = time_files({**files, "again": files["fp32"]}, questions.real, runs=40)
    assert {one.runs for one in found.values()} == {40}
    same = [found["fp32"].p50_us, found["again"].p50_us]
    assert max(same) / statistics.mean(same) < 1.5, "the same file takes as long as itself"
    (short,) = time_files({"fp32": files["fp32"]}, questions.real, runs=10_000, limit_s=0).values()
    assert short.runs == 4, "one round, the first of its block left out"


def test_a_larger_model_takes_more_memory(digits: DigitsBuild) -> None:
    files = files_of(digits)
    fp32, int8 = measure_memory(files["fp32"]), measure_memory(files["int8"])
    assert fp32 is not None
    assert int8 is not None
    assert fp32 > int8
    assert measure_memory(b"no model") is None


def test_a_file_that_cannot_be_loaded_is_refused(digits: DigitsBuild) -> None:
    with pytest.raises(Invalid, match="cannot load"):
        judge([Candidate("broken", b"\0\0\0\0TFL3")], questions_of(digits))
