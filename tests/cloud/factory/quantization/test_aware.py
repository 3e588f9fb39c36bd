"""Networks that round: the converted file computes what the training graph does, and nothing is float."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.data import load_splits
from fleet_cloud.factory.inspect import inspect_file
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.network import Network, array_of, copy_model, weights_of
from fleet_cloud.factory.quantization.aware import (
    Aware,
    keep_float,
    make_aware,
    rounded_of,
    roundings_of,
    settle_biases,
)
from fleet_cloud.factory.quantization.integer import int8
from fleet_cloud.factory.recipe import Dataset
from fleet_cloud.factory.recipe.passes import Cluster, Int8, PruneWeights, Tune
from fleet_cloud.factory.tuning import score, tune
from fleet_shared.manifest import Preprocessing
from tests.cloud.factory.quantization.nets import SHAPE, make_parts, shake_norms
from tests.cloud.factory.small import make_lab, make_network

Array = NDArray[Any]
layers = keras.layers

STEPS_MAX = 2
AGREEMENT_MIN = 0.995


def parts_lab(samples: int = 96) -> Lab:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (samples, *SHAPE)).astype(np.uint8)
    part = Part(x, np.arange(samples) % 5)
    return Lab(part, part, Preprocessing(scale=1 / 255), tuple("abcde"), 1, lambda _event: None)


@dataclass(frozen=True)
class Compared:
    """Over the validation split."""

    steps: float
    agreement: float


def compare(network: Network, lab: Lab) -> Compared:
    """Steps are those of the logits: softmax makes many steps of one where probabilities are steep. Classes
    are those of the released file."""
    file, released = (LiteModel(convert(network, one)) for one in (replace(lab, task="regression"), lab))
    real = lab.real(lab.validation.x)
    graph = array_of(network.model(real, training=False))
    scale, zero_point = file.outputs[0]["quantization"]
    steps = np.clip(np.rint(graph / scale) + zero_point, -128, 127)
    logits, given = (
        np.stack([one.run([one.quantize(sample[np.newaxis])])[0][0] for sample in real]).astype(int)
        for one in (file, released)
    )
    agreement = float((given.argmax(1) == steps.argmax(1)).mean())
    return Compared(float(np.abs(logits - steps).max()), agreement)


def types_of(content: bytes) -> dict[str, tuple[str, ...]]:
    return {op.name: op.dtypes for op in inspect_file(content).ops}


def codes_of(content: bytes) -> dict[tuple[int, ...], Array]:
    """Return the int8 weights of a file by their shape."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    found = {}
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.INT8 and data is not None and len(data):
            found[tuple(tensor.shape)] = np.frombuffer(bytes(data), np.int8)
    return found


@pytest.fixture(scope="module")
def parts() -> Aware:
    return make_aware(Network(make_parts()), parts_lab(), 64)


def test_residual_concatenated_and_depthwise_parts_compute_the_same_in_the_file(parts: Aware) -> None:
    lab = parts_lab()
    content = convert(parts.network, lab)
    found = compare(parts.network, lab)
    assert found.steps <= STEPS_MAX
    assert found.agreement >= AGREEMENT_MIN
    assert parts.floats == ()
    assert all(dtypes[0] == "int8" for dtypes in types_of(content).values()), "nothing is float"
    assert "QUANTIZE" not in types_of(content), "no range is in the way of another"
    per_channel = {op.name for op in inspect_file(content).ops if op.per_channel}
    assert per_channel == {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}


def test_a_convolution_an_addition_and_their_relu_are_one_unit(parts: Aware) -> None:
    names = [layer.name.removesuffix("_range") for layer in roundings_of(parts.network.model)]
    assert names == [
        "input_layer", "stem_relu", "depthwise_relu", "point", "add_relu", "concat", "mean", "hidden_relu",
        "logits",
    ]  # fmt: skip


def test_dense_layers_have_one_scale_if_asked() -> None:
    lab = parts_lab()
    aware = make_aware(Network(make_parts()), lab, 64, per_channel_dense=False)
    content = convert(aware.network, lab)
    assert not any(op.per_channel for op in inspect_file(content).ops if op.name == "FULLY_CONNECTED")
    assert compare(aware.network, lab).steps <= STEPS_MAX


OTHERS: Mapping[str, Callable[[Any], Any]] = {
    "transposed": lambda x: layers.AveragePooling2D(2)(
        layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(x)
    ),
    "signal": lambda x: layers.LeakyReLU()(
        layers.Conv1D(6, 3, padding="same", activation="tanh")(layers.Reshape((16, 12))(x))
    ),
    "pooled": lambda x: layers.AveragePooling2D(2)(layers.Conv2D(4, 3, activation="relu")(x)),
    "averaged": lambda x: layers.AveragePooling2D(8)(  # a mean of 64 values: a fraction of a step matters
        layers.Dropout(0.1)(layers.Conv2D(16, 3, padding="same", activation="relu")(x))
    ),
    "enlarged": lambda x: layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(4, 3)(x)),
    "squashed": lambda x: layers.GlobalMaxPooling2D()(
        layers.Conv2D(4, 3, dilation_rate=2, activation="sigmoid")(layers.ZeroPadding2D()(x))
    ),
}


@pytest.mark.parametrize("name", ["pooled", "averaged", "enlarged"])
def test_averages_are_rounded_as_in_the_file_code_by_code(name: str) -> None:
    lab = parts_lab(48)
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers.Dense(5)(layers.Flatten()(OTHERS[name](inputs))))
    network = settle_biases(make_aware(Network(model), lab, 48).network)
    assert compare(network, lab).steps == 0


@pytest.mark.parametrize("name", OTHERS)
def test_other_layers(name: str) -> None:
    lab = parts_lab(48)
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    x = layers.Flatten()(OTHERS[name](inputs))
    model = keras.Model(inputs, layers.Dense(5)(x))
    shake_norms(model)
    aware = make_aware(Network(model), lab, 48)
    content = convert(aware.network, lab)
    assert aware.floats == ()
    assert all("float32" not in dtypes for dtypes in types_of(content).values())
    assert compare(aware.network, lab).steps <= STEPS_MAX


def test_averages_are_on_the_scale_of_what_they_average() -> None:
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = layers.AveragePooling2D(6, name="pool")(layers.Dropout(0.1)(x))
    model = keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))
    lab = parts_lab(48)
    network = tune(make_aware(Network(model), lab, 48).network, lab, Tune(epochs=1, batch_size=16)).network
    before, after = (network.model.get_layer(f"{name}_range") for name in ("conv", "pool"))
    assert float(after.high) == float(before.high) > 0, "it moves as the other does"
    pooled = array_of(keras.Model(network.model.input, after.output)(lab.real(lab.train.x), training=False))
    steps = pooled / (float(before.high) / 255)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert len(np.unique(np.rint(steps))) > 4, "not all the same"


@pytest.mark.parametrize("per_channel_dense", [True, False])
def test_biases_are_those_of_the_file_after_training(per_channel_dense: bool) -> None:
    lab = parts_lab(48)
    bright = Part(lab.train.x // 2 + 128, lab.train.y)  # the range of the inputs is widened to hold 0
    lab = replace(lab, train=bright, validation=bright)
    how = Int8(aware=True, per_channel_dense=per_channel_dense, tune=Tune(epochs=1, batch_size=16))
    trained = int8(how, Network(make_parts()), lab).network
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(convert(trained, lab)))
    biases = [
        one
        for one in model.subgraphs[0].tensors
        if one.type == schema.TensorType.INT32 and one.quantization.scale is not None
    ]
    in_file = sorted(
        value
        for one in biases
        for value in np.frombuffer(bytes(model.buffers[one.buffer].data), np.int32) * one.quantization.scale
    )
    trained_to = sorted(value for layer in rounded_of(trained.model) for value in array_of(layer.bias))
    np.testing.assert_allclose(in_file, trained_to, rtol=1e-5, atol=1e-9)


def test_a_layer_of_another_kind_stays_float_inside_and_is_named() -> None:
    lab = parts_lab(16)
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.LayerNormalization(name="norm")(x)
    model = keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))
    aware = make_aware(Network(model), lab, 16)
    assert aware.floats == ("norm",)
    types = types_of(convert(aware.network, lab))
    assert types["CONV_2D"][0] == types["FULLY_CONNECTED"][0] == "int8"


def test_layers_that_are_kept_in_float_are_float_in_the_file(parts: Aware) -> None:
    lab = parts_lab()
    kept = keep_float(parts.network, ("stem", "logits"))
    content = convert(kept, lab)
    floats = {op.name for op in inspect_file(content).ops if op.dtypes[0] == "float32"}
    assert {"CONV_2D", "FULLY_CONNECTED"} <= floats
    file = LiteModel(content)
    assert file.inputs[0]["dtype"] == file.outputs[0]["dtype"] == np.int8
    first = keep_float(parts.network, ("stem",))
    assert compare(first, lab).steps <= STEPS_MAX
    assert kept.precision.keep_float == ("stem", "logits")
    np.testing.assert_array_equal(
        array_of(weights_of(copy_model(kept.model))["stem/kernel"]),
        array_of(weights_of(parts.network.model)["stem/kernel"]),
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of Keras, when it saves
def test_a_network_that_rounds_is_saved_and_read_again(parts: Aware, tmp_path: Path) -> None:
    kept = keep_float(parts.network, ("hidden",)).model
    kept.save(tmp_path / "aware.keras")
    again = keras.saving.load_model(tmp_path / "aware.keras")
    x = parts_lab().real(parts_lab().train.x[:8])
    np.testing.assert_array_equal(array_of(again(x)), array_of(kept(x)))


def digits_lab() -> Lab:
    splits = load_splits(Dataset(), 1)
    train, validation = (Part(part.x, part.y) for part in (splits.train, splits.validation))
    return Lab(train, validation, splits.preprocessing, splits.labels, 1, lambda _event: None)


def digits_model() -> Any:
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((8, 8, 1))
    for width in (8, 16):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def test_a_network_that_was_trained_with_rounding_agrees_with_its_file_on_digits() -> None:
    lab = digits_lab()
    trained = tune(Network(digits_model()), lab, Tune(epochs=6, learning_rate=0.005)).network
    outcome = int8(Int8(aware=True, tune=Tune(epochs=1)), trained, lab)
    assert len(outcome.facts["history"]) == 1
    found = compare(outcome.network, lab)
    assert found.steps <= STEPS_MAX
    assert found.agreement >= AGREEMENT_MIN
    exact = score(trained.model, lab.validation, lab)
    assert exact > 0.9
    assert score(outcome.network.model, lab.validation, lab) >= exact - 0.01
    ranges = [float(one.high) for one in roundings_of(outcome.network.model)]
    before = [float(one.high) for one in roundings_of(make_aware(trained, lab, 300).network.model)]
    assert ranges != before, "ranges moved with training"


def test_zeros_and_shared_codes_are_in_the_file() -> None:
    from fleet_cloud.factory.pruning.weights import prune_weights
    from fleet_cloud.factory.quantization.clustering import cluster

    lab, entries = make_lab(), 8
    still, short = Tune(epochs=0), Tune(epochs=1, batch_size=32)
    pruned = prune_weights(PruneWeights(sparsity=0.5, tune=still), make_network(), lab).network
    shared = cluster(Cluster(entries=entries, normalize=True, tune=still), pruned, lab).network
    rounded = int8(Int8(aware=True, tune=short), shared, lab).network
    codes = codes_of(convert(rounded, lab))
    assert compare(rounded, lab).steps <= STEPS_MAX
    kernels = {
        path: array_of(one) for path, one in weights_of(rounded.model).items() if path in shared.constraints
    }
    assert len(codes) == len(kernels)
    for shape, found in codes.items():
        assert len(np.unique(found)) <= entries, shape
    zeros = sum(int((found == 0).sum()) for found in codes.values())
    assert zeros >= sum(int((array_of(weights_of(pruned.model)[path]) == 0).sum()) for path in kernels)


def test_unlabelled_samples_are_enough_to_calibrate() -> None:
    lab = make_lab()
    bare = replace(lab, train=Part(lab.train.x, None), validation=Part(lab.validation.x, None))
    assert make_aware(make_network(), bare, 32).network.precision.aware
