"""The graph of a model: what is called in which order, and models inside taken apart."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.graph import flatten, read_calls, read_graph, rebuild, remake


def test_sources_come_first_and_in_the_order_of_the_arguments() -> None:
    inputs = keras.Input((3,), name="in")
    a, b = layers.Dense(4, name="a")(inputs), layers.Dense(4, name="b")(inputs)
    model = keras.Model(inputs, layers.Subtract(name="out")([b, a]))
    graph = read_graph(model)
    assert next(iter(graph)) == "in"
    assert list(graph)[-1] == "out"
    assert graph["out"].sources == ("b", "a")


def test_what_a_layer_does_in_another_model_is_not_there() -> None:
    inputs = keras.Input((3,))
    dense = layers.Dense(3, name="dense")
    model = keras.Model(inputs, dense(inputs))
    keras.Model(inputs, dense(dense.output))
    assert [call.layer.name for call in read_calls(model)].count("dense") == 1
    assert read_graph(model)["dense"].sources == (inputs._keras_history.operation.name,)


def test_a_layer_called_twice_has_two_calls_and_no_single_node() -> None:
    shared, inputs = layers.Dense(3, name="shared"), keras.Input((3,))
    model = keras.Model(inputs, shared(shared(inputs)))
    assert [call.layer.name for call in read_calls(model)].count("shared") == 2
    with pytest.raises(BuildError, match="'shared' is called more than once"):
        read_graph(model)


def nested() -> keras.Model:
    """Models in models, one called twice, names that are taken, and one called for inference only."""
    block = keras.Sequential(
        [layers.Input((4, 4, 3)), layers.Conv2D(3, 1, name="conv"), layers.BatchNormalization(name="norm")],
        name="block",
    )
    middle_in = keras.Input((4, 4, 3))
    middle = keras.Model(middle_in, layers.ReLU(name="relu")(block(block(middle_in))), name="middle")
    inputs = keras.Input((4, 4, 3), name="picture")
    x = layers.Conv2D(3, 1, name="conv")(inputs)
    x = middle(x, training=False) + x
    return keras.Model(inputs, keras.ops.relu(x), name="whole")


def test_models_inside_are_taken_apart_with_the_same_weights_and_outputs() -> None:
    model = nested()
    random = np.random.default_rng(1)
    model.set_weights([random.uniform(0.1, 1, weight.shape) for weight in model.weights])
    flat = flatten(model)
    names = [call.layer.name for call in read_calls(flat)]
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
    assert {"picture", "conv", "block_conv", "norm", "relu"} <= set(names)
    assert names.count("block_conv") == 2
    x = random.normal(size=(5, 4, 4, 3)).astype(np.float32)
    for training in (False, True, None):  # in None, the model inside is called for inference
        assert np.allclose(flat(x, training=training), model(x, training=training), atol=1e-5)
    before = model.get_weights()
    flat.set_weights([0 * weight for weight in flat.get_weights()])
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))


def test_a_sequential_model_becomes_functional_and_a_flat_one_stays() -> None:
    sequential = keras.Sequential([layers.Input((3,)), layers.Dense(2, name="only")])
    flat = flatten(sequential)
    assert list(read_graph(flat))[-1] == "only"
    assert np.allclose(flat(np.ones((1, 3))), sequential(np.ones((1, 3))))
    assert flatten(flat) is flat


@pytest.mark.parametrize("model", [keras.Model(), keras.Sequential([layers.Dense(2)])])
def test_a_model_without_a_graph_is_refused(model: keras.Model) -> None:
    with pytest.raises(BuildError, match="no functional model") as caught:
        read_calls(model)
    assert caught.value.code == "build.graph"


def test_a_model_is_made_anew_with_other_layers_weights_and_calls() -> None:
    """``double`` gets twice its units and its weights twice, ``out`` is called twice, ``gone`` never."""
    inputs = keras.Input((3,), name="in")
    x = layers.Dense(2, name="double")(inputs)
    x = layers.BatchNormalization(name="gone")(x)
    model = keras.Model(inputs, layers.Rescaling(3.0, name="out")(x), name="whole")

    def make(layer: keras.Layer, config: dict[str, Any]) -> Any:
        return remake(layer, {**config, "units": 4} if layer.name == "double" else config)

    def weigh(layer: keras.Layer) -> list[Any]:
        if layer.name == "gone":
            return []
        return [np.concatenate([weight, weight], axis=-1) for weight in layer.get_weights()]

    def call(own: Any, taken: Any, **_: Any) -> Any:
        if own.name == "gone":
            return taken
        return own(own(taken)) if own.name == "out" else own(taken)

    made = rebuild(model, make, weigh, call)
    assert [layer.name for layer in made.layers] == ["in", "double", "out"]
    given = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    once = model.get_layer("double")(given)
    assert np.allclose(made(given), 9 * np.concatenate([once, once], axis=-1), atol=1e-5)
    assert model.get_layer("double").units == 2, "the given model is as it was"
