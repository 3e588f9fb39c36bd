"""A recipe carried out: real training, real conversion, real measurements."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError, Invalid, RecipeError
from fleet_cloud.factory.cache import Cache
from fleet_cloud.factory.data import load_splits
from fleet_cloud.factory.events import BuildEvent, Epoch, Stage, StepEnded, VariantBuilt
from fleet_cloud.factory.keeping import CacheKeeper
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.recipe import Architecture, Dataset, Gates, Recipe, Training, VariantRecipe
from fleet_cloud.factory.recipe.search import Search
from fleet_cloud.factory.recipe.variants import Target
from fleet_cloud.factory.report.document import read_report
from fleet_shared.manifest import Contract, Role
from fleet_shared.pixels import to_real
from tests.cloud.factory.conftest import EPOCHS, DigitsBuild


def ignore(event: BuildEvent) -> None:
    """Say nothing."""


def contract(digits: DigitsBuild, name: str) -> Contract:
    return next(package.contract for package in digits.built.packages if package.name == name)


@pytest.mark.parametrize("module", ["build", "exploring"])
def test_threads_are_fixed_before_anything_is_computed(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A layer that augments, or a network that is read, would fix them as they are on this machine."""
    from fleet_cloud.factory import build, exploring
    from fleet_cloud.factory.candidates import Means

    steps: list[str] = []

    def stop(*_: object) -> None:
        steps.append("samples")
        raise InterruptedError

    monkeypatch.setattr(f"fleet_cloud.factory.{module}.fix_threads", lambda: steps.append("threads"))
    monkeypatch.setattr(f"fleet_cloud.factory.{module}.load_splits", stop)
    recipe = Recipe(model="digits", search=Search(passes=({"pass": "int8"},)))
    begin: dict[str, Callable[[], object]] = {
        "build": lambda: build.build(recipe, ignore),
        "exploring": lambda: exploring.explore(recipe, ignore, tmp_path, Means()),
    }
    with pytest.raises(InterruptedError):
        begin[module]()
    assert steps == ["threads", "samples"]


def test_int8_is_as_good_as_fp32_and_a_fraction_of_its_size(digits: DigitsBuild) -> None:
    fp32, int8 = (contract(digits, name).metrics.accuracy for name in ("fp32", "int8"))
    assert fp32 is not None
    assert int8 is not None
    assert int8 >= 0.96
    assert fp32 - int8 <= 0.01
    sizes = {package.name: len(package.blobs[Role.MODEL]) for package in digits.built.packages}
    assert sizes["int8"] < sizes["fp32"] / 2


def test_int8_is_integer_from_input_to_output(digits: DigitsBuild) -> None:
    (taken,), (given,) = contract(digits, "int8").inputs, contract(digits, "int8").outputs
    assert (taken.dtype, taken.shape) == ("int8", (1, 8, 8, 1))
    assert (given.dtype, given.shape) == ("int8", (1, 10))
    assert taken.quantization is not None
    ops = contract(digits, "int8").ops
    assert {op.name for op in ops} == {"CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D", "RESHAPE", "SOFTMAX"}
    assert all(op.dtypes[0] == "int8" for op in ops)
    assert any(op.per_channel for op in ops if op.name == "CONV_2D")


def test_every_variant_runs_on_all_runtimes_and_brings_golden_vectors(digits: DigitsBuild) -> None:
    for package in digits.built.packages:
        assert set(package.contract.runtimes) == {"litert", "tflite_runtime", "openvino", "tvm"}
        assert package.contract.golden.samples == 16
        assert package.contract.golden.same_class
        assert package.blobs[Role.LABELS] == b"".join(b"%d\n" % number for number in range(10))
    scale = contract(digits, "int8").outputs[0].quantization
    assert scale is not None
    assert contract(digits, "int8").golden.tolerance >= 4 * scale.scale


def test_the_promised_accuracy_is_that_of_the_registered_bytes_on_the_test_split(
    digits: DigitsBuild,
) -> None:
    splits = load_splits(digits.recipe.dataset, digits.recipe.training.seed)
    real = to_real(splits.test.x, splits.preprocessing)
    for package in digits.built.packages:
        model = LiteModel(package.blobs[Role.MODEL])
        taken = [model.run([model.quantize(one[np.newaxis])])[0].argmax() for one in real]
        assert np.mean(taken == splits.test.y) == package.contract.metrics.accuracy
        assert len(taken) == package.contract.metrics.test_samples


def test_events_tell_the_story_in_order(digits: DigitsBuild) -> None:
    epochs = [event for event in digits.events if isinstance(event, Epoch)]
    assert [event.epoch for event in epochs] == list(range(1, EPOCHS + 1))
    assert epochs[-1].seconds_left == 0
    assert epochs[-1].loss < epochs[0].loss
    assert [event.name for event in digits.events if isinstance(event, Stage)] == ["data", "measuring"]
    ended = [(event.subject, event.step) for event in digits.events if isinstance(event, StepEnded)]
    assert ended == [("float", "training"), ("int8", "int8")]
    assert [event.name for event in digits.events if isinstance(event, VariantBuilt)] == ["fp32", "int8"]


def test_the_lineage_names_recipe_data_and_libraries(digits: DigitsBuild) -> None:
    lineage = digits.built.lineage
    assert lineage["recipe"]["model"] == "digits"
    assert len(lineage["data_sha256"]) == 64
    assert {"keras", "ai-edge-litert"} <= set(lineage["libraries"])
    assert len(lineage["history"]) == EPOCHS


def test_the_report_tells_of_every_variant(digits: DigitsBuild) -> None:
    report = read_report(digits.built.artifacts["report.json"])
    assert [one.name for one in report.variants] == [one.name for one in digits.built.packages]
    for one in report.variants:
        promised = contract(digits, one.name).metrics
        assert one.evaluation.accuracy == promised.accuracy
        assert one.evaluation.samples is not None
        assert one.evaluation.samples.count == promised.test_samples
        assert [step.name for step in one.passes] == (["int8"] if one.name == "int8" else [])
        assert one.evaluation.operations
    assert report.training is not None
    assert len(report.training.history) == EPOCHS
    assert report.float_weights is not None
    assert report.float_weights.values == report.variants[0].evaluation.weights.values
    assert report.lineage["data_sha256"] == digits.built.lineage["data_sha256"]
    assert digits.built.artifacts["report.html"].startswith(b"<!doctype html>")


@dataclass(frozen=True)
class Stray:
    """OpenVINO that computes something else, or that has no answer."""

    answers: bool
    name: str = "openvino"

    def answer(self, _content: bytes, samples: Sequence[Sequence[NDArray[Any]]]) -> list[list[NDArray[Any]]]:
        if not self.answers:
            raise Invalid("its process ended with -9", code="model.peer")
        return [[np.eye(10, dtype=np.float32)[[number % 10]]] for number in range(len(samples))]


@pytest.mark.parametrize(
    ("target", "answers", "released"),
    [("openvino", True, False), ("openvino", False, True), ("litert", True, True)],
)
def test_a_variant_is_not_released_when_its_target_computes_something_else(
    target: Target, answers: bool, released: bool
) -> None:
    from fleet_cloud.factory.build import build

    recipe = Recipe(
        model="digits",
        architecture=Architecture(kind="mlp", units=8),
        training=Training(epochs=4, learning_rate=0.01),
        variants=(VariantRecipe(name="fp32", target=target),),
    )
    if released:
        (package,) = build(recipe, ignore, peers=[Stray(answers)]).packages
        assert "openvino" not in package.contract.runtimes
        return
    with pytest.raises(
        BuildError, match="'fp32' is not for its target openvino: its answers are too far"
    ) as caught:
        build(recipe, ignore, peers=[Stray(answers)])
    assert caught.value.code == "build.target"


OWN_LAYER = """
import keras

@keras.saving.register_keras_serializable("own")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x

def make(shape, outputs):
    inputs = keras.Input(shape)
    flat = keras.layers.Flatten()(Doubled()(inputs))
    return keras.Model(inputs, keras.layers.Dense(outputs)(flat))
"""


def test_a_network_with_a_layer_of_the_users_own_is_found_again_by_the_next_process(tmp_path: Path) -> None:
    from fleet_cloud.factory.build import build

    (tmp_path / "own.py").write_text(OWN_LAYER)
    recipe = Recipe(
        model="digits",
        architecture=Architecture(kind="python", path=str(tmp_path / "own.py"), function="make"),
        training=Training(epochs=1),
        variants=(VariantRecipe(name="fp32"),),
    )
    found = []
    for _ in range(2):
        keras.saving.get_custom_objects().clear()  # as a new process begins
        events: list[BuildEvent] = []
        build(
            recipe, events.append, keeper=CacheKeeper(Cache(tmp_path / "cache", pytest.fail)), allow_code=True
        )
        found += [event.cached for event in events if isinstance(event, StepEnded)]
    assert found == [False, True]


def test_the_same_recipe_gives_the_same_blobs(digits: DigitsBuild) -> None:
    from fleet_cloud.factory.build import build

    again = build(digits.recipe, ignore)
    assert [package.refs for package in again.packages] == [package.refs for package in digits.built.packages]


def test_a_gate_that_does_not_hold_ends_the_build(digits_recipe: Recipe) -> None:
    from fleet_cloud.factory.build import build

    hurried = msgspec.structs.replace(
        digits_recipe,
        architecture=Architecture(kind="mlp", units=1),
        training=Training(epochs=1),
        gates=Gates(accuracy_min=0.999),
    )
    events: list[BuildEvent] = []
    with pytest.raises(BuildError, match="accuracy_min") as caught:
        build(hurried, events.append)
    assert caught.value.code == "build.gate"
    assert not any(isinstance(event, VariantBuilt) for event in events), "the test split was not read"


def test_an_mlp_learns_features(tmp_path: Path) -> None:
    from fleet_cloud.factory.build import build

    random = np.random.default_rng(1)
    y = np.arange(200) % 2
    x = (random.normal(size=(200, 6)) + 3 * y[:, np.newaxis]).astype(np.float32)
    np.savez(tmp_path / "features.npz", x=x, y=y)
    recipe = Recipe(
        model="features",
        dataset=Dataset(kind="npz", path=str(tmp_path / "features.npz")),
        architecture=Architecture(kind="mlp", units=4),
        training=Training(epochs=20, batch_size=16),
    )
    accuracies = [p.contract.metrics.accuracy for p in build(recipe, ignore).packages]
    assert all(accuracy is not None and accuracy >= 0.9 for accuracy in accuracies)
    with pytest.raises(RecipeError, match="small-cnn") as caught:
        build(msgspec.structs.replace(recipe, architecture=Architecture()), ignore)
    assert caught.value.code == "recipe.architecture"
