"""Every score against sums written out with NumPy, on a network with a residual addition."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.pruning.activity import mean_activation, share_of_zeros
from fleet_cloud.factory.pruning.dependencies import Dependencies, analyse
from fleet_cloud.factory.pruning.scores import (
    TAYLOR_BATCH,
    Scorer,
    batch_norm,
    by_magnitude,
    geometric_median,
    taylor,
)
from tests.cloud.factory.pruning.networks import CLASSES, SIDE, make_lab, make_network, randomize

Array = NDArray[Any]


@pytest.fixture(scope="module")
def model() -> Any:
    """``a`` and ``b`` make the same 4 channels; ``c`` and ``hidden`` take them, ``hidden`` in 36 columns."""
    inputs = keras.Input((SIDE, SIDE, 2))
    a = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, padding="same", name="a")(inputs))
    b = layers.Conv2D(4, 1, name="b", use_bias=False)(inputs)
    x = layers.ReLU()(layers.Add()([a, b]))
    x = layers.Add()([x, layers.Conv2D(4, 1, name="c", activation="relu")(x)])
    hidden = layers.Dense(5, activation="relu", name="hidden")(layers.Flatten()(x))
    return randomize(keras.Model(inputs, layers.Dense(CLASSES, name="end")(hidden)))


@pytest.fixture(scope="module")
def dependencies(model: Any) -> Dependencies:
    return analyse(model)


def score(scorer: Scorer, model: Any, dependencies: Dependencies, name: str) -> Array:
    return scorer(model, dependencies, dependencies.groups, make_lab()).values[name]


def kernel(model: Any, layer: str) -> Array:
    array: Array = model.get_layer(layer).kernel.numpy().astype(np.float64)
    return array


def in_units_of_the_mean(values: list[float]) -> Array:
    return np.asarray(np.array(values) / np.mean(values))


def columns(model: Any, channel: int) -> Array:
    """What ``hidden`` takes of a channel."""
    return kernel(model, "hidden").reshape(SIDE * SIDE, 4, 5)[:, channel]


@pytest.mark.parametrize("power", [1, 2])
def test_magnitude(model: Any, dependencies: Dependencies, power: int) -> None:
    gamma = model.get_layer("norm").gamma.numpy()

    def norm(array: Array) -> float:
        return float((np.abs(array) ** power).sum() ** (1 / power))

    members = [
        [norm(kernel(model, "a")[..., k]) for k in range(4)],
        [norm(gamma[k]) for k in range(4)],
        [norm(kernel(model, "b")[..., k]) for k in range(4)],
        [norm(kernel(model, "c")[..., k]) for k in range(4)],
        [norm(kernel(model, "c")[:, :, k]) for k in range(4)],
        [norm(columns(model, k)) for k in range(4)],
    ]
    wanted = np.mean([in_units_of_the_mean(member) for member in members], axis=0)
    assert np.allclose(score(by_magnitude(power), model, dependencies, "a"), wanted)


def test_geometric_median(model: Any, dependencies: Dependencies) -> None:
    members = []
    for layer in ("a", "b", "c"):
        filters = [kernel(model, layer)[..., k] for k in range(4)]
        members.append([sum(float(np.linalg.norm(one - other)) for other in filters) for one in filters])
    wanted = np.mean([in_units_of_the_mean(member) for member in members], axis=0)
    assert np.allclose(score(geometric_median, model, dependencies, "a"), wanted)


def test_batch_norm(model: Any, dependencies: Dependencies) -> None:
    wanted = np.abs(model.get_layer("norm").gamma.numpy())
    assert np.allclose(score(batch_norm, model, dependencies, "a"), wanted)
    scored = batch_norm(model, dependencies, dependencies.groups, make_lab())
    assert scored.without == {"hidden": "no batch normalisation scales it"}


def test_taylor_is_the_slope_of_the_loss_as_a_channel_fades(model: Any, dependencies: Dependencies) -> None:
    """The derivative by a factor before all who take the channel, from finite differences."""
    lab = make_lab(samples=48)  # one batch
    copy = keras.models.clone_model(model)
    assert lab.train.y is not None

    def loss(channel: int, factor: float) -> float:
        copy.set_weights(model.get_weights())
        c, hidden = kernel(model, "c"), kernel(model, "hidden").reshape(SIDE * SIDE, 4, 5)
        c[:, :, channel] *= factor
        hidden[:, channel] *= factor
        copy.get_layer("c").kernel.assign(c)
        copy.get_layer("hidden").kernel.assign(hidden.reshape(-1, 5))
        logits = np.asarray(copy(lab.real(lab.train.x)), dtype=np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        likely = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return float(-likely[np.arange(len(likely)), lab.train.y].mean())

    slopes = [(loss(channel, 1.001) - loss(channel, 0.999)) / 0.002 for channel in range(4)]
    found = taylor(model, dependencies, dependencies.groups, lab).values["a"]
    assert np.allclose(found, np.square(slopes), rtol=0.03, atol=1e-6)


def test_taylor_is_a_mean_over_batches(model: Any, dependencies: Dependencies) -> None:
    lab = make_lab(samples=2 * TAYLOR_BATCH)
    x, y = lab.train.x, lab.train.y
    assert y is not None
    order = np.random.default_rng(lab.seed).permutation(len(x))
    halves = [
        replace(lab, train=Part(x[rows], y[rows])) for rows in (order[:TAYLOR_BATCH], order[TAYLOR_BATCH:])
    ]
    one, other = (score_of_hidden(model, dependencies, half) for half in halves)
    assert not np.allclose(one, other, rtol=0.01)
    both = score_of_hidden(model, dependencies, lab)
    assert np.allclose(both, (one + other) / 2, rtol=1e-3, atol=1e-9)


def score_of_hidden(model: Any, dependencies: Dependencies, lab: Lab) -> Array:
    return taylor(model, dependencies, dependencies.groups, lab).values["hidden"]


def test_taylor_needs_labels(model: Any, dependencies: Dependencies) -> None:
    lab = make_lab(samples=48)
    with pytest.raises(BuildError, match="needs labels"):
        taylor(model, dependencies, dependencies.groups, replace(lab, train=Part(lab.train.x, None)))


def activations(model: Any) -> Array:
    """What ``end`` takes, for all training samples."""
    x = make_lab().real(make_lab().train.x)
    return np.asarray(keras.Model(model.input, model.get_layer("hidden").output)(x))


def test_mean_activation(model: Any, dependencies: Dependencies) -> None:
    wanted = np.abs(activations(model)).mean(axis=0)
    assert np.allclose(score(mean_activation, model, dependencies, "hidden"), wanted, rtol=1e-4)


def test_share_of_zeros(model: Any, dependencies: Dependencies) -> None:
    zeros = (activations(model) == 0).mean(axis=0)
    assert zeros.max() > 0
    assert np.allclose(score(share_of_zeros, model, dependencies, "hidden"), 1 - zeros, atol=1e-6)


def test_neurons_that_are_never_zero_have_no_score() -> None:
    inputs = keras.Input((SIDE, SIDE, 2))
    x = layers.Dense(4, activation="sigmoid", name="soft")(layers.Flatten()(inputs))
    network = keras.Model(inputs, layers.Dense(CLASSES)(x))
    dependencies = analyse(network)
    scored = share_of_zeros(network, dependencies, dependencies.groups, make_lab())
    assert scored.without == {"soft": "none of its neurons is ever zero"}
    assert not scored.values


def test_what_follows_a_multiplied_depthwise_convolution_is_scored_too() -> None:
    network = make_network([("twice-as-deep", 3)])
    dependencies = analyse(network)
    for scorer in (by_magnitude(2), geometric_median, taylor):
        values = scorer(network, dependencies, dependencies.groups, make_lab()).values
        assert {name: len(one) for name, one in values.items()} == {
            group.name: len(group.channels) for group in dependencies.groups
        }
        assert all(np.isfinite(one).all() for one in values.values())
