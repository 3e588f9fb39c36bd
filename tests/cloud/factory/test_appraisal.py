"""What is found out about somebody else's model."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.appraisal import appraise
from fleet_cloud.factory.evaluation.results import Evaluation
from fleet_cloud.factory.evaluation.running import run_outputs
from fleet_cloud.factory.imported import ImportRequest, import_model
from fleet_cloud.factory.report.artifacts import make_artifacts
from fleet_cloud.factory.report.document import Report, read_report
from fleet_shared.manifest import Preprocessing
from tests.kit.tiny_model import make_dynamic_model, make_sum_and_product, make_tiny_model

LABELS = ("ant", "bee", "cow", "doe")
PREPROCESSING = Preprocessing(scale=0.5, offset=-1.0)


@pytest.fixture
def request_(tmp_path: Path) -> ImportRequest:
    file, labels = tmp_path / "model.tflite", tmp_path / "labels.txt"
    file.write_bytes(make_tiny_model())
    labels.write_text("".join(f"{label}\n" for label in LABELS))
    return ImportRequest(file, labels=labels, samples=None, golden=None, preprocessing=PREPROCESSING)


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    np.savez(path, allow_pickle=False, **arrays)
    return path


def draw(count: int = 100) -> NDArray[np.float32]:
    """Raw samples: what the preprocessing makes of them lies between -1 and 1."""
    return np.random.default_rng(2).uniform(0, 4, size=(count, 8)).astype(np.float32)


def appraise_(request: ImportRequest) -> tuple[Evaluation, Report]:
    made, report = appraise("tiny", import_model(request), request, {"imported": "model.tflite"})
    (variant,) = report.variants
    assert made.contract.metrics.accuracy == variant.evaluation.accuracy
    return variant.evaluation, report


def test_without_labelled_samples_all_but_the_accuracy_is_known(request_: ImportRequest) -> None:
    content = request_.file.read_bytes()
    found, report = appraise_(request_)
    assert (found.variant, found.accuracy, found.samples, found.against_float) == ("fp32", None, None, None)
    assert (found.parameters, found.operations, found.weights.values) == (32, 32, 32)
    assert found.size.file_bytes == found.size.wire_bytes["identity"] == len(content)
    assert {"zstd", "codebook", "xz"} <= set(found.size.wire_bytes)
    assert found.latency is not None
    assert found.latency.p50_us > 0
    assert found.memory.peak_bytes is None or found.memory.peak_bytes > len(content)
    assert (report.task, report.labels, report.lineage) == (
        "classification",
        LABELS,
        {"imported": "model.tflite"},
    )


def test_the_report_is_kept_as_that_of_a_build(request_: ImportRequest) -> None:
    _, report = appraise_(replace(request_, labels=None))
    artifacts = make_artifacts(report)
    assert read_report(artifacts["report.json"]) == report
    page = artifacts["report.html"].decode()
    assert "no samples: accuracy is unknown" in page
    assert "classification" not in page, "nobody said what it is for"


def test_samples_that_say_what_they_are_are_judged(request_: ImportRequest, tmp_path: Path) -> None:
    x = draw()
    y = run_outputs(request_.file.read_bytes(), x * 0.5 - 1).argmax(axis=1)
    y[:10] = (y[:10] + 1) % 4
    for name, kind in (("signed", np.int64), ("unsigned", np.uint8), ("floats", np.float32)):
        samples = save(tmp_path / f"{name}.npz", x=x, y=y.astype(kind))
        found, report = appraise_(replace(request_, samples=samples))
        assert found.accuracy == pytest.approx(0.9)
        assert found.samples is not None
        assert (found.samples.count, found.samples.split) == (100, "given at the import")
        assert found.classification is not None
        assert [one.label for one in found.classification.classes] == list(LABELS)
    assert "judged on 100 samples (given at the import)" in make_artifacts(report)["report.html"].decode()


@pytest.mark.parametrize("kind", [np.int64, np.bool_, np.float32])
def test_a_model_of_one_output_tells_two_classes_apart(
    request_: ImportRequest, tmp_path: Path, kind: type
) -> None:
    request_.file.write_bytes(make_dynamic_model(classes=1))
    x = draw(60)
    y = run_outputs(request_.file.read_bytes(), x * 0.5 - 1)[:, 0] > 0.5
    y[:6] = ~y[:6]
    labels = tmp_path / "two.txt"
    labels.write_text("no\nyes\n")
    samples = save(tmp_path / "two.npz", x=x, y=y.astype(kind)[:, np.newaxis])
    found, report = appraise_(replace(request_, labels=labels, samples=samples))
    assert report.task == "classification"
    assert found.accuracy == pytest.approx(0.9)
    assert found.classification is not None
    assert [one.label for one in found.classification.classes] == ["no", "yes"]


def test_values_are_judged_by_their_errors(request_: ImportRequest, tmp_path: Path) -> None:
    x = draw(40)
    y = run_outputs(request_.file.read_bytes(), x * 0.5 - 1) + 0.25
    found, report = appraise_(replace(request_, samples=save(tmp_path / "values.npz", x=x, y=y)))
    assert report.task == "regression"
    assert found.regression is not None
    assert found.regression.rmse.value == pytest.approx(0.25)
    assert found.accuracy is None


def test_whole_values_of_one_labelled_output_are_values(request_: ImportRequest, tmp_path: Path) -> None:
    request_.file.write_bytes(make_dynamic_model(classes=1))
    labels = tmp_path / "one.txt"
    labels.write_text("degrees\n")
    samples = save(tmp_path / "whole.npz", x=draw(20), y=np.arange(20, dtype=np.float32))
    found, report = appraise_(replace(request_, labels=labels, samples=samples))
    assert report.task == "regression"
    assert found.regression is not None


def test_models_of_several_inputs_and_without_a_batch_are_timed(request_: ImportRequest) -> None:
    for shape in ((1, 3), (4,)):
        request_.file.write_bytes(make_sum_and_product(shape))
        found, _ = appraise_(replace(request_, labels=None))
        assert found.latency is not None
        assert (found.operations, found.accuracy) == (0, None)


def test_what_cannot_be_the_classes_of_the_samples_is_refused(
    request_: ImportRequest, tmp_path: Path
) -> None:
    x = draw(6)
    wrong: dict[str, NDArray[Any]] = {
        "has 6 samples, and y has shape (5,)": np.zeros(5, np.int64),
        "y has shape ()": np.array(3),
        "the class 4, and the model tells 4 apart": np.array([0, 1, 2, 3, 4, 0]),
        "the class -1": np.array([0, 1, 2, 3, -1, 0]),
        "is int64 (6, 4)": np.zeros((6, 4), np.int64),
        "is <U1 (6,)": np.array(list("abcdab")),
        "has 2 values a sample, and the model gives 4": np.zeros((6, 2)),
        "not a finite number": np.array([0, 1, np.inf, 0, 1, 0]),
        "y[1] in": np.array([[0.0] * 4, [np.nan] * 4, *[[0.0] * 4] * 4]),
    }
    for message, y in wrong.items():
        with pytest.raises(Invalid) as caught:
            import_model(replace(request_, samples=save(tmp_path / "s.npz", x=x, y=y)))
        assert message in caught.value.message
        assert (caught.value.code, bool(caught.value.hint)) == ("model.samples", True)
    request_.file.write_bytes(make_sum_and_product((1, 8)))
    two = replace(request_, labels=None, samples=save(tmp_path / "s.npz", x=x, y=np.zeros(6, np.int64)))
    with pytest.raises(Invalid, match="cannot be compared"):
        import_model(two)


def test_an_import_loads_no_tensorflow() -> None:
    """It takes seconds and half a gigabyte, which a file that is there already does not need."""
    code = (
        "import sys\n"
        "from fleet_cloud.factory import appraisal, imported\n"
        "from fleet_cloud.factory.report import artifacts\n"
        "print(sorted({'tensorflow', 'keras', 'optuna', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
