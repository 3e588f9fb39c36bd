"""Models of the user's own: what is read, what is detached, and what is refused."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_cloud.errors import CloudError, Invalid, RecipeError
from fleet_cloud.factory.architectures import build_model
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.own_files import load_own_file
from fleet_cloud.factory.own_models import OwnModel, check_fits, detach_head, load_own_model
from fleet_cloud.factory.recipe import Architecture
from tests.cloud.factory.small import CLASSES, SIZE, make_lab, make_model, unlabelled

Array = NDArray[Any]
# Keras copies variables in a way that numpy 2 means to change when it saves them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPE = (SIZE, SIZE, 1)
layers = keras.layers


def run(model: Any, count: int = 3) -> Array:
    x = np.random.default_rng(1).uniform(size=(count, *model.input.shape[1:])).astype(np.float32)
    return np.asarray(model(x, training=False))


def load(path: Path, *, allow_code: bool = False) -> OwnModel:
    architecture = Architecture(kind="file", path=str(path))
    return load_own_model(architecture, SHAPE, CLASSES, allow_code=allow_code)


def load_function(path: Path, source: str, *, allow_code: bool = True) -> OwnModel:
    path.write_text(source)
    architecture = Architecture(kind="python", path=str(path), function="make")
    return load_own_model(architecture, SHAPE, CLASSES, allow_code=allow_code)


def with_residuals() -> Any:
    """Residual and concatenated parts, a model inside the model, the softmax inside the last layer."""
    inside = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(3, 3, padding="same")], name="inside")
    inputs = keras.Input(SHAPE)
    stem = layers.Conv2D(3, 3, padding="same", name="stem")(inputs)
    added = layers.Add()([stem, inside(stem)])
    both = layers.Concatenate()([added, layers.DepthwiseConv2D(3, padding="same")(stem)])
    x = layers.Flatten()(layers.BatchNormalization()(both))
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax", name="last")(x))


def save_as_keras_2(model: Any, path: Path) -> Path:
    """Write a model as Keras 2.4 did: batch_input_shape, layers that name those before them, an optimizer
    that Keras 3 does not know."""
    described = []
    for layer in model.layers:
        config = {key: value for key, value in layer.get_config().items() if key != "dtype"}
        before = [one._keras_history.operation.name for one in _taken_by(layer)]
        if isinstance(layer, layers.InputLayer):
            config = {
                "batch_input_shape": [None, *SHAPE],
                "dtype": "float32",
                "sparse": False,
                "name": layer.name,
            }
        for key, value in config.items():
            if isinstance(value, dict) and "class_name" in value:
                config[key] = {"class_name": value["class_name"], "config": value["config"]}
        inbound = [[[name, 0, 0, {}] for name in before]] if before else []
        described.append(
            {
                "class_name": type(layer).__name__,
                "config": config,
                "name": layer.name,
                "inbound_nodes": inbound,
            }
        )
    ends = {"input_layers": [[model.inputs[0]._keras_history.operation.name, 0, 0]]}
    ends["output_layers"] = [[model.outputs[0]._keras_history.operation.name, 0, 0]]
    whole = {"class_name": "Functional", "config": {"name": "old", "layers": described, **ends}}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = "2.4.0", "tensorflow"
        file.attrs["model_config"] = json.dumps(whole)
        file.attrs["training_config"] = json.dumps(
            {"optimizer_config": {"class_name": "Custom>Old", "config": {}}, "loss": "gone"}
        )
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            own = group.create_group(layer.name)
            own.attrs["weight_names"] = [f"{weight.path}:0".encode() for weight in layer.weights]
            for weight in layer.weights:
                own.create_dataset(f"{weight.path}:0", data=np.asarray(weight))
    return path


def _taken_by(layer: Any) -> list[Any]:
    return list(layer._inbound_nodes[0].input_tensors) if layer._inbound_nodes else []


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_of_keras_gives_logits_and_its_parts_as_layers(tmp_path: Path, suffix: str) -> None:
    model = with_residuals()
    model.save(tmp_path / f"own{suffix}")
    own = load(tmp_path / f"own{suffix}")
    assert own.head == "softmax"
    np.testing.assert_allclose(np.asarray(keras.ops.softmax(run(own.model))), run(model), atol=1e-6)
    assert not np.allclose(run(own.model).sum(axis=1), 1)
    assert not any(isinstance(layer, keras.Model) for layer in own.model.layers)
    assert {"stem", "last"} <= {layer.name for layer in own.model.layers}


def test_a_file_from_keras_2_is_read_layer_by_layer(tmp_path: Path) -> None:
    model = build_model(Architecture(kind="resnet", depth=8, units=2), SHAPE, CLASSES)
    for weight in model.weights:
        weight.assign(np.random.default_rng(len(weight.path)).uniform(0.1, 0.5, weight.shape))
    own = load(save_as_keras_2(model, tmp_path / "old.h5"))
    assert own.head == "none"
    np.testing.assert_allclose(run(own.model), run(model), rtol=1e-5)
    assert [weight.path for weight in own.model.weights] == [weight.path for weight in model.weights]


def end_in_softmax(x: Any) -> Any:
    return layers.Softmax()(layers.Dense(CLASSES)(x))


def end_in_activation(x: Any) -> Any:
    return layers.Activation("softmax")(layers.Dense(CLASSES)(x))


def end_in_dense(x: Any) -> Any:
    return layers.Dense(CLASSES, activation="softmax")(x)


@pytest.mark.parametrize("end", [end_in_softmax, end_in_activation, end_in_dense])
def test_a_final_softmax_is_detached_wherever_it_is(end: Callable[[Any], Any]) -> None:
    inputs = keras.Input((5,))
    model = keras.Model(inputs, end(layers.Dense(3, activation="relu")(inputs)))
    own = detach_head(model)
    assert own.head == "softmax"
    np.testing.assert_allclose(np.asarray(keras.ops.softmax(run(own.model))), run(model), atol=1e-6)
    assert not np.allclose(run(own.model).sum(axis=1), 1)
    before = run(model)
    own.model.set_weights([0 * weight for weight in own.model.get_weights()])
    np.testing.assert_array_equal(run(model), before)


@pytest.mark.parametrize("inside", [True, False])
def test_one_sigmoid_becomes_two_classes_with_the_same_probabilities(inside: bool) -> None:
    inputs = keras.Input((5,))
    x = layers.Dense(1, activation="sigmoid" if inside else None)(layers.Dense(3)(inputs))
    model = keras.Model(inputs, x if inside else layers.Activation("sigmoid")(x))
    own = detach_head(model)
    assert own.head == "softmax"
    probabilities = np.asarray(keras.ops.softmax(run(own.model)))
    np.testing.assert_allclose(probabilities[:, 1:], run(model), atol=1e-6)
    np.testing.assert_allclose(probabilities[:, :1], 1 - run(model), atol=1e-6)


def test_values_and_sigmoids_of_several_classes_stay() -> None:
    inputs = keras.Input((5,))
    for activation in ("sigmoid", "linear", "relu"):
        model = keras.Model(inputs, layers.Dense(3, activation=activation)(inputs))
        own = detach_head(model)
        assert own.head == "none"
        np.testing.assert_array_equal(run(own.model), run(model))


def test_a_function_makes_a_model_for_the_shape_and_the_classes(tmp_path: Path) -> None:
    source = """
import keras

def make(shape, outputs):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(outputs)])
"""
    own = load_function(tmp_path / "mine.py", source)
    assert (own.model.input.shape[1:], own.model.output.shape[1:]) == (SHAPE, (CLASSES,))
    check_fits(own, make_lab(8))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def make(shape, outputs):\n    return 1 / 0", "ZeroDivisionError"),
        ("def make(shape):\n    return None", "TypeError"),
        ("def make(shape, outputs):\n    return 7", "gives int, no Keras model"),
        ("def other(): pass", "no function 'make'"),
        ("def make(:", "SyntaxError"),
        ("raise RuntimeError('no')", "RuntimeError: no"),
    ],
)
def test_a_function_that_gives_no_model_is_refused(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_function(tmp_path / "mine.py", source)
    assert caught.value.code == "recipe.architecture"
    assert "mine.py" in caught.value.message


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    inputs = keras.Input(SHAPE)
    x = layers.Lambda(lambda value: value * 2, output_shape=SHAPE)(inputs)
    model = keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(x)))
    for name in ("own.keras", "own.h5"):
        model.save(tmp_path / name)
        with pytest.raises(Invalid, match=r"own\.\w+ holds code") as caught:
            load(tmp_path / name, allow_code=True)
        assert caught.value.code == "model.code"


def test_a_function_is_not_run_unless_it_is_allowed_and_makes_no_lambda_layers(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(Invalid) as caught:
        load_function(tmp_path / "mine.py", f"open({str(marker)!r}, 'w')", allow_code=False)
    assert caught.value.code == "model.code"
    assert not marker.exists()
    source = """
from keras import Input, Sequential, layers

class Twice(layers.Layer):
    def call(self, x):
        return 2 * x

def make(shape, outputs):
    return Sequential([Input(shape), LAYER, layers.Flatten(), layers.Dense(outputs)])
"""
    with pytest.raises(Invalid, match="Lambda") as caught:
        load_function(
            tmp_path / "mine.py",
            source.replace("LAYER", "layers.Lambda(lambda x: 2 * x, output_shape=lambda shape: shape)"),
        )
    assert caught.value.code == "model.code"
    own = load_function(tmp_path / "mine.py", source.replace("LAYER", "Twice()"))
    assert [type(layer).__name__ for layer in own.model.layers][1] == "Twice"


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.keras").write_bytes(b"nothing of that kind")
    (tmp_path / "own.h5").write_bytes(b"nothing of that kind")
    for name in ("own.keras", "own.h5"):
        with pytest.raises(Invalid, match=name) as caught:
            load(tmp_path / name)
        assert caught.value.code == "model.file.unloadable"
        assert "\n" not in caught.value.message


def several_outputs() -> Any:
    inputs = keras.Input((5,))
    return keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(2)(inputs)])


def any_size() -> Any:
    inputs = keras.Input((None, None, 1))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(inputs)))


def a_map() -> Any:
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, layers.Conv2D(2, 3)(inputs))


@pytest.mark.parametrize(
    ("make", "message"),
    [(several_outputs, "1 inputs and 2 outputs"), (any_size, "of any size"), (a_map, "expected")],
)
def test_a_model_of_another_form_is_refused(tmp_path: Path, make: Callable[[], Any], message: str) -> None:
    make().save(tmp_path / "own.keras")
    with pytest.raises(RecipeError, match=message) as caught:
        load(tmp_path / "own.keras")
    assert caught.value.code == "recipe.architecture"


def test_a_model_and_a_data_set_that_do_not_belong_together_are_refused() -> None:
    lab = make_lab(8)
    check_fits(OwnModel(make_model(), "none"), lab)
    inputs = keras.Input((SIZE, SIZE, 1))
    three = OwnModel(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inputs))), "none")
    with pytest.raises(RecipeError, match="3 classes apart, and the data set has 4"):
        check_fits(three, lab)
    wide = keras.Input((9, 9, 1))
    with pytest.raises(RecipeError, match=r"\(9, 9, 1\), and the data set has \(8, 8, 1\)"):
        check_fits(OwnModel(keras.Model(wide, layers.Dense(4)(layers.Flatten()(wide))), "none"), lab)


def test_outputs_that_are_no_logits_are_values_also_without_labels() -> None:
    inputs = keras.Input(SHAPE)
    for activation in ("sigmoid", "relu"):
        last = layers.Dense(3, activation=activation)
        own = detach_head(keras.Model(inputs, last(layers.Flatten()(inputs))))
        with pytest.raises(RecipeError, match=f"ends in {activation}, and the task is classification"):
            check_fits(own, unlabelled(make_lab(8)))
        check_fits(own, replace(unlabelled(make_lab(8)), task="regression"))


def test_a_saved_model_becomes_a_float_file_when_code_is_allowed(tmp_path: Path) -> None:
    model = make_model()
    model.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    with pytest.raises(RecipeError, match="only converted"):
        load(tmp_path / "saved")
    with pytest.raises(Invalid) as caught:
        load_own_file(tmp_path / "saved")
    assert caught.value.code == "model.code"
    lite = LiteModel(load_own_file(tmp_path / "saved", allow_code=True))
    x = np.random.default_rng(1).uniform(size=(1, *SHAPE)).astype(np.float32)
    (found,) = lite.run([x])
    np.testing.assert_allclose(found, np.asarray(model(x)), atol=1e-5)


def test_a_folder_or_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.tflite"):
        with pytest.raises(CloudError, match=str(path)) as caught:
            load_own_file(path, allow_code=True)
        assert caught.value.code == "model.file.unloadable"
    (tmp_path / "a.tflite").write_bytes(b"TFL3")
    assert load_own_file(tmp_path / "a.tflite") == b"TFL3"


@pytest.mark.bench
def test_the_resnet_of_mlperf_tiny_is_read_and_is_the_architecture_of_fleet() -> None:
    """Written by Keras 2.4; its authors' own conversion says what it computes."""
    folder = Path(os.environ.get("FLEET_BENCH_DATA", "")) / "mlperf-tiny"
    if not (folder / "pretrainedResnet.h5").is_file():
        pytest.skip("FLEET_BENCH_DATA names no folder that holds mlperf-tiny/pretrainedResnet.h5")
    own = load(folder / "pretrainedResnet.h5")
    assert own.head == "softmax"
    x = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    lite = LiteModel((folder / "pretrainedResnet.tflite").read_bytes())
    wanted = np.concatenate([lite.run([sample[np.newaxis]])[0] for sample in x])
    np.testing.assert_allclose(np.asarray(keras.ops.softmax(own.model(x))), wanted, atol=1e-4)
    built = build_model(Architecture(kind="resnet", depth=8), (32, 32, 3), 10)
    built.set_weights(own.model.get_weights())
    np.testing.assert_allclose(np.asarray(built(x)), np.asarray(own.model(x)), rtol=1e-4, atol=1e-3)
