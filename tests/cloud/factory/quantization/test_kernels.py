"""Which weights take few values, which axes are their channels, and what is kept."""

import keras
import numpy as np
import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.quantization.few_values import conditional_entropy, describe, entropy
from fleet_cloud.factory.quantization.kernels import kernels_of


def net() -> keras.Model:
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="one")(inputs)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="two")(x)
    x = layers.SeparableConv2D(6, 3, name="three")(x)
    x = layers.Conv2DTranspose(5, 2, name="four")(x)
    x = layers.BatchNormalization()(x)
    return keras.Model(inputs, layers.Dense(10, name="five")(layers.Flatten()(x)))


def test_kernels_have_their_channels_and_the_order_of_the_file() -> None:
    found = kernels_of(net())
    assert [(one.path.split("/")[0], one.channels, one.order) for one in found] == [
        ("one", (3,), (3, 0, 1, 2)),
        ("two", (2, 3), (0, 1, 2, 3)),
        ("three", (2, 3), (0, 1, 2, 3)),
        ("three", (3,), (3, 0, 1, 2)),
        ("four", (2,), (2, 0, 1, 3)),
        ("five", (1,), (1, 0)),
    ]
    assert [one.largest.shape for one in found[:2]] == [(1, 1, 1, 4), (1, 1, 4, 2)]


def test_layers_are_kept_by_name_and_place() -> None:
    assert [one.layer for one in kernels_of(net(), ("first", "last", "three"))] == ["two", "four"]
    with pytest.raises(BuildError, match="'batch_normalization'") as caught:
        kernels_of(net(), ("batch_normalization",))
    assert caught.value.code == "build.layer"
    assert "one, two, three, four, five" in str(caught.value.hint)


def test_entropy_in_bits() -> None:
    assert entropy(np.array([3, 3, 3])) == 0
    assert entropy(np.arange(8)) == pytest.approx(3)
    assert entropy(np.array([0, 0, 1, 2])) == pytest.approx(1.5)
    assert conditional_entropy(np.array([[1, 2], [5, 5]]), np.array([[0, 0], [1, 1]])) == pytest.approx(0.5)


def test_what_is_said_of_a_layer() -> None:
    before, after = np.array([0.0, 0.4, 0.9, 1.1]), np.array([0.0, 0.5, 1.0, 1.0])
    said = describe("one", before, after, 1.23456)
    assert said["mean_squared_error"] == pytest.approx(0.03 / 4)
    assert (said["sparsity"], said["distinct"], said["entropy_bits_per_weight"]) == (0.25, 3, 1.2346)
