"""Operations and parameters, against sums written by hand."""

from typing import Any

import keras
import pytest
from keras import layers

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.operations import LayerCost, count_operations, count_parameters, describe_layers


def cost(layer: Any, *shape: int | None) -> LayerCost:
    """What ``layer`` costs on one input of ``shape``."""
    inputs = keras.Input(shape)
    return describe_layers(keras.Model(inputs, layer(inputs)))[-1]


@pytest.mark.parametrize(
    ("layer", "shape", "operations", "parameters"),
    [
        (
            lambda: layers.Conv2D(6, (3, 2), padding="same"),
            (8, 9, 4),
            8 * 9 * 3 * 2 * 4 * 6,
            3 * 2 * 4 * 6 + 6,
        ),
        (lambda: layers.Conv2D(6, 3, strides=2), (9, 9, 4), 4 * 4 * 9 * 4 * 6, 9 * 4 * 6 + 6),
        (lambda: layers.Conv2D(6, 3, dilation_rate=2), (9, 9, 4), 5 * 5 * 9 * 4 * 6, 9 * 4 * 6 + 6),
        (lambda: layers.Conv2D(6, 3, groups=2, use_bias=False), (5, 5, 4), 3 * 3 * 9 * 2 * 6, 9 * 2 * 6),
        (lambda: layers.Conv1D(5, 3), (10, 2), 8 * 3 * 2 * 5, 3 * 2 * 5 + 5),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 4), 4 * 4 * 9 * 4 * 2, 9 * 4 * 2 + 8),
        (
            lambda: layers.SeparableConv2D(7, 3, depth_multiplier=2),
            (6, 6, 4),
            4 * 4 * (9 * 4 * 2 + 4 * 2 * 7),
            9 * 4 * 2 + 4 * 2 * 7 + 7,
        ),
        (lambda: layers.Conv2DTranspose(3, 2, strides=2), (4, 5, 6), 4 * 5 * 2 * 2 * 6 * 3, 4 * 6 * 3 + 3),
        (lambda: layers.Dense(7), (5,), 5 * 7, 5 * 7 + 7),
        (lambda: layers.Dense(7, use_bias=False), (3, 2, 5), 3 * 2 * 5 * 7, 5 * 7),
        (layers.BatchNormalization, (4, 4, 3), 0, 4 * 3),
        (layers.MaxPooling2D, (4, 4, 3), 0, 0),
        (lambda: layers.PReLU(shared_axes=(1, 2)), (4, 4, 3), 0, 3),
    ],
)
def test_each_kind_costs_what_its_sum_says(
    layer: Any, shape: tuple[int, ...], operations: int, parameters: int
) -> None:
    found = cost(layer(), *shape)
    assert (found.operations, found.parameters) == (operations, parameters)


def test_what_cannot_be_counted_is_named_and_not_guessed() -> None:
    assert cost(layers.LSTM(4), 5, 3).operations is None
    inputs = keras.Input((4, 4))
    product = keras.Model(inputs, keras.ops.matmul(inputs, inputs))
    assert [one.operations for one in describe_layers(product)] == [0, None]
    assert count_operations(product) == 0


def test_a_layer_called_twice_computes_twice_and_holds_once() -> None:
    shared, inputs = layers.Dense(5, use_bias=False), keras.Input((5,))
    model = keras.Model(inputs, shared(shared(inputs)))
    assert (count_operations(model), count_parameters(model)) == (50, 25)
    assert sum(one.parameters for one in describe_layers(model)) == 25


def test_models_inside_are_counted_at_the_size_they_are_called_with() -> None:
    inner = keras.Sequential([layers.Input((None, None, 2)), layers.Conv2D(3, 1, use_bias=False)])
    inputs = keras.Input((4, 5, 2))
    model = keras.Model(inputs, layers.Conv2D(1, 1, use_bias=False)(inner(inputs)))
    assert count_operations(model) == 4 * 5 * (2 * 3 + 3)
    assert count_parameters(model) == 2 * 3 + 3


def test_a_size_left_open_is_refused() -> None:
    with pytest.raises(BuildError, match="left open") as caught:
        cost(layers.Conv2D(3, 1), None, 4, 2)
    assert caught.value.code == "build.shape"
