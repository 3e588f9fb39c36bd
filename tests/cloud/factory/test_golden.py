"""Golden vectors: which samples, which tolerance, and that a device can use the file."""

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_agent.runtimes.loading import load_runtime
from fleet_agent.worker.golden import has_passed, run_golden
from fleet_cloud.errors import Invalid
from fleet_cloud.factory.data import load_splits
from fleet_cloud.factory.golden import (
    FLOAT_TOLERANCE_MIN,
    SAMPLES,
    Vectors,
    choose_samples,
    get_share,
    make_golden,
)
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.package import package
from fleet_shared.manifest import Golden, Metrics, Preprocessing, Role
from fleet_shared.pixels import to_real
from tests.cloud.factory.conftest import DigitsBuild
from tests.cloud.factory.edited_model import with_flipped_bits
from tests.kit.tiny_model import make_tiny_model


def scores(best: int, margin: float, classes: int = 4) -> list[NDArray[np.float32]]:
    row = np.zeros((1, classes), np.float32)
    row[0, best] = margin
    return [row]


def inputs(count: int, seed: int = 0) -> list[list[NDArray[np.float32]]]:
    random = np.random.default_rng(seed)
    return [[random.normal(size=(1, 8)).astype(np.float32)] for _ in range(count)]


def passes_on_a_device(model: bytes, vectors: Vectors, folder: Path) -> bool:
    """Run the self-test as an agent does."""
    (folder / "model.tflite").write_bytes(model)
    loaded = load_runtime("litert").load(str(folder / "model.tflite"), 1)
    return has_passed(run_golden(loaded, vectors.rule, vectors.content))


def test_near_ties_are_left_out_and_the_boundary_is_in() -> None:
    outputs = [scores(0, margin) for margin in [0.25, 0.2499] * SAMPLES]
    chosen, same_class = choose_samples(outputs, [0.125] * len(outputs))
    assert chosen == list(range(0, 2 * SAMPLES, 2))
    assert same_class


def test_classes_take_turns() -> None:
    outputs = [scores(0, 1.0)] * 40 + [scores(1, 1.0)] * 2 + [scores(3, 1.0)]
    chosen, _ = choose_samples(outputs, [0.1] * len(outputs))
    assert chosen[:5] == [0, 40, 42, 1, 41]
    assert len(chosen) == SAMPLES


def test_without_clear_samples_only_the_tolerance_is_tested() -> None:
    chosen, same_class = choose_samples([scores(0, 0.01)] * 20, [0.1] * 20)
    assert len(chosen) == SAMPLES
    assert not same_class


def test_a_sample_that_the_ways_disagree_on_is_left_out_and_does_not_set_the_tolerance() -> None:
    outputs = [scores(n % 4, 1.0) for n in range(40)]
    needs = [0.4 if n % 2 else 0.01 for n in range(40)]
    chosen, same_class = choose_samples(outputs, needs)
    assert same_class
    assert len(chosen) == SAMPLES
    assert max(needs[i] for i in chosen) == 0.01


def test_the_margin_is_twice_the_tolerance_of_the_worst_sample_that_is_kept() -> None:
    outputs = [scores(0, 0.1)] * 6 + [scores(1, 1.0)] * 12
    needs = [0.01] * 6 + [0.2] * 12
    chosen, same_class = choose_samples(outputs, needs)
    assert same_class
    assert chosen == list(range(6, 18)), "0.1 is clear of 0.01, and not of the 0.2 that the others need"


def test_without_clear_samples_the_least_demanding_are_taken() -> None:
    needs = [0.5] * 4 + [0.1] * SAMPLES
    chosen, _ = choose_samples([scores(0, 0.01)] * len(needs), needs)
    assert max(needs[i] for i in chosen) == 0.1


def test_a_tolerance_of_more_than_a_few_percent_of_the_range_is_weak() -> None:
    assert not Vectors(Golden(samples=1, tolerance=1), b"", get_share(0.05, 1.0)).weak
    assert Vectors(Golden(samples=1, tolerance=1), b"", get_share(0.0501, 1.0)).weak
    assert Vectors(Golden(samples=1, tolerance=1), b"", get_share(0.05, 0.0)).weak


def test_weak_vectors_are_named_when_the_variant_is_built() -> None:
    made = make_golden(make_tiny_model(), inputs(20))
    whole: dict[str, Any] = {
        "labels": (),
        "preprocessing": Preprocessing(),
        "metrics": Metrics(),
        "candidates": (),
    }
    warned = package("fp32", make_tiny_model(), golden=replace(made, share=0.4), **whole)
    assert "fp32 allow differences of 40%" in " ".join(warned.warnings)
    assert package("fp32", make_tiny_model(), golden=made, **whole).warnings == ()


def test_a_model_with_a_dozen_flipped_bits_fails_its_vectors(digits: DigitsBuild, tmp_path: Path) -> None:
    from fleet_cloud.factory.releasing import pick_in_turns

    splits = load_splits(digits.recipe.dataset, digits.recipe.training.seed)
    real = to_real(splits.validation.x[pick_in_turns(splits.validation.y)], splits.preprocessing)
    for each in digits.built.packages:
        content = each.blobs[Role.MODEL]
        model = LiteModel(content)
        vectors = make_golden(content, [[model.quantize(real[i : i + 1])] for i in range(len(real))])
        damaged = [with_flipped_bits(content, 14, seed) for seed in range(14)]
        passed = [passes_on_a_device(file, vectors, tmp_path) for file in damaged]
        assert sum(passed) <= 2, f"{each.name}: {sum(passed)} of 14 damaged models pass"
        assert passes_on_a_device(content, vectors, tmp_path)


@pytest.mark.bench
def test_random_inputs_on_which_kernels_disagree_do_not_blind_the_vectors(tmp_path: Path) -> None:
    """ResNet-8 of MLPerf Tiny: its int8 kernels differ by 100 of 255 steps on some noise."""
    file = Path(os.environ.get("FLEET_BENCH_DATA", "")) / "mlperf-tiny" / "pretrainedResnet_quant.tflite"
    if not file.is_file():
        pytest.skip("FLEET_BENCH_DATA names no folder that holds mlperf-tiny/*.tflite")
    random = np.random.default_rng(0)
    noise = [[random.integers(-128, 128, (1, 32, 32, 3)).astype(np.int8)] for _ in range(64)]
    content = file.read_bytes()
    vectors = make_golden(content, noise)
    assert not vectors.weak
    damaged = [with_flipped_bits(content, 14, seed) for seed in range(14)]
    assert sum(passes_on_a_device(each, vectors, tmp_path) for each in damaged) <= 3


def test_no_samples_are_refused() -> None:
    with pytest.raises(Invalid) as caught:
        make_golden(make_tiny_model(), [])
    assert caught.value.code == "model.golden"


def test_a_device_passes_the_vectors_of_its_model_and_fails_those_of_another(tmp_path: Path) -> None:
    vectors = make_golden(make_tiny_model(seed=1), inputs(40))
    rule = vectors.rule
    assert passes_on_a_device(make_tiny_model(seed=1), vectors, tmp_path)
    assert not passes_on_a_device(make_tiny_model(seed=2), vectors, tmp_path)
    assert not vectors.weak
    assert rule.samples == SAMPLES
    assert rule.same_class
    assert rule.tolerance >= FLOAT_TOLERANCE_MIN


def test_the_file_has_samples_first_and_the_same_bytes_again() -> None:
    vectors = make_golden(make_tiny_model(), inputs(20)).content
    with np.load(io.BytesIO(vectors)) as archive:
        assert {name: archive[name].shape for name in archive} == {
            "input_0": (SAMPLES, 8),
            "output_0": (SAMPLES, 4),
        }
    assert make_golden(make_tiny_model(), inputs(20)).content == vectors


def test_outputs_that_are_no_numbers_are_refused() -> None:
    endless = [[np.full((1, 8), np.inf, np.float32)]]
    with pytest.raises(Invalid, match="not finite") as caught, np.errstate(invalid="ignore"):
        make_golden(make_tiny_model(), endless)
    assert caught.value.code == "model.golden"


def test_a_sample_of_another_shape_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        make_golden(make_tiny_model(), [[np.zeros((1, 9), np.float32)]])
    assert caught.value.code == "model.run"
