"""Golden vectors: which samples, which tolerance, and that a device can use the file."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_agent.runtimes.loading import load_runtime
from fleet_agent.worker.golden import has_passed, run_golden
from fleet_cloud.errors import Invalid
from fleet_cloud.factory.golden import FLOAT_TOLERANCE_MIN, SAMPLES, choose_samples, make_golden
from tests.kit.tiny_model import make_tiny_model


def scores(best: int, margin: float, classes: int = 4) -> list[NDArray[np.float32]]:
    row = np.zeros((1, classes), np.float32)
    row[0, best] = margin
    return [row]


def inputs(count: int, seed: int = 0) -> list[list[NDArray[np.float32]]]:
    random = np.random.default_rng(seed)
    return [[random.normal(size=(1, 8)).astype(np.float32)] for _ in range(count)]


def test_near_ties_are_left_out_and_the_boundary_is_in() -> None:
    outputs = [scores(0, margin) for margin in [0.25, 0.2499] * SAMPLES]
    chosen, same_class = choose_samples(outputs, tolerance=0.125)
    assert chosen == list(range(0, 2 * SAMPLES, 2))
    assert same_class


def test_classes_take_turns() -> None:
    outputs = [scores(0, 1.0)] * 40 + [scores(1, 1.0)] * 2 + [scores(3, 1.0)]
    chosen, _ = choose_samples(outputs, tolerance=0.1)
    assert chosen[:5] == [0, 40, 42, 1, 41]
    assert len(chosen) == SAMPLES


def test_without_clear_samples_only_the_tolerance_is_tested() -> None:
    chosen, same_class = choose_samples([scores(0, 0.01)] * 20, tolerance=0.1)
    assert len(chosen) == SAMPLES
    assert not same_class


def test_no_samples_are_refused() -> None:
    with pytest.raises(Invalid) as caught:
        choose_samples([], tolerance=0.1)
    assert caught.value.code == "model.golden"


def test_a_device_passes_the_vectors_of_its_model_and_fails_those_of_another(tmp_path: Path) -> None:
    rule, vectors = make_golden(make_tiny_model(seed=1), inputs(40))
    (tmp_path / "golden.npz").write_bytes(vectors)
    passed = []
    for seed in (1, 2):
        (tmp_path / "model.tflite").write_bytes(make_tiny_model(seed=seed))
        model = load_runtime("litert").load(str(tmp_path / "model.tflite"), 1)
        passed.append(has_passed(run_golden(model, rule, tmp_path / "golden.npz")))
    assert passed == [True, False]
    assert rule.samples == SAMPLES
    assert rule.same_class
    assert rule.tolerance >= FLOAT_TOLERANCE_MIN


def test_the_file_has_samples_first_and_the_same_bytes_again() -> None:
    _, vectors = make_golden(make_tiny_model(), inputs(20))
    with np.load(io.BytesIO(vectors)) as archive:
        assert {name: archive[name].shape for name in archive} == {
            "input_0": (SAMPLES, 8),
            "output_0": (SAMPLES, 4),
        }
    assert make_golden(make_tiny_model(), inputs(20))[1] == vectors


def test_outputs_that_are_no_numbers_are_refused() -> None:
    endless = [[np.full((1, 8), np.inf, np.float32)]]
    with pytest.raises(Invalid, match="not finite") as caught, np.errstate(invalid="ignore"):
        make_golden(make_tiny_model(), endless)
    assert caught.value.code == "model.golden"


def test_a_sample_of_another_shape_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        make_golden(make_tiny_model(), [[np.zeros((1, 9), np.float32)]])
    assert caught.value.code == "model.run"
