"""Which channels go together, and which stay, with the reason."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.pruning.channels import Role
from fleet_cloud.factory.pruning.dependencies import Dependencies, analyse
from tests.cloud.factory.pruning.networks import make_network


def conv(filters: int, name: str, **options: Any) -> Any:
    return layers.Conv2D(filters, 1, name=name, **options)


def around(middle: Callable[[Any], Any]) -> Dependencies:
    """The dependencies of: ``before`` (4 filters), what is asked about, ``after`` (4 filters), the end."""
    inputs = keras.Input((4, 4, 2))
    x = conv(4, "after")(middle(conv(4, "before")(inputs)))
    return analyse(keras.Model(inputs, conv(2, "end")(x)))


def makers(dependencies: Dependencies) -> list[tuple[str, ...]]:
    return [group.makers for group in dependencies.groups]


def test_what_is_added_goes_together_and_what_is_concatenated_does_not() -> None:
    inputs = keras.Input((4, 4, 2))
    a, b, c = conv(4, "a")(inputs), conv(4, "b")(inputs), conv(3, "c")(inputs)
    x = layers.Concatenate()([layers.Add()([a, b]), c])
    found = analyse(keras.Model(inputs, conv(2, "end")(x)))
    assert makers(found) == [("a", "b"), ("c",)]
    taken = next(one for one in found.slices if one.layer == "end" and one.role is Role.TAKES)
    assert taken.channels.tolist() == [*found.groups[0].channels, *found.groups[1].channels]
    assert found.left_alone == {"end": "it gives the model's output"}


def test_a_layer_that_is_added_to_a_concatenation_belongs_to_both_parts() -> None:
    inputs = keras.Input((4, 4, 2))
    parts = [conv(4, "a")(inputs), conv(3, "b")(inputs)]
    x = layers.Add()([conv(7, "whole")(inputs), layers.Concatenate()(parts)])
    found = analyse(keras.Model(inputs, conv(2, "end")(x)))
    assert makers(found) == [("a", "whole"), ("b", "whole")]
    assert [(group.name, len(group.channels)) for group in found.groups] == [("a", 4), ("b", 3)]


def test_a_flattened_channel_is_every_so_manieth_column() -> None:
    inputs = keras.Input((2, 3, 2))
    x = layers.Dense(5, name="dense")(layers.Flatten()(conv(4, "a")(inputs)))
    found = analyse(keras.Model(inputs, layers.Dense(2, name="end")(x)))
    (taken,) = (one for one in found.slices if one.path == "dense/kernel" and one.axis == 0)
    first = found.groups[0].channels[0]
    assert np.flatnonzero(taken.channels == first).tolist() == [0, 4, 8, 12, 16, 20]
    assert [(group.name, group.kind) for group in found.groups] == [("a", "filters"), ("dense", "neurons")]


def test_each_depthwise_input_gives_neighbouring_outputs() -> None:
    found = around(layers.DepthwiseConv2D(1, depth_multiplier=2, name="deep"))
    channels = list(found.groups[0].channels)
    (bias,) = (one for one in found.slices if one.path == "deep/bias")
    assert bias.channels.tolist() == [channel for channel in channels for _ in range(2)]


def test_the_model_s_input_holds_what_it_is_added_to() -> None:
    inputs = keras.Input((4, 4, 4))
    x = layers.Add()([inputs, conv(4, "a")(inputs)])
    found = analyse(keras.Model(inputs, conv(2, "end")(x)))
    assert not found.groups
    assert found.left_alone["a"] == "its channels meet the model's input"


shared = conv(4, "shared")


@pytest.mark.parametrize(
    ("layer", "name", "reason"),
    [
        (layers.LayerNormalization(name="odd"), "odd", "LayerNormalization is not known"),
        (layers.Softmax(name="odd"), "odd", "Softmax is not known"),
        (layers.Activation("softmax", name="odd"), "odd", "compares channels (softmax)"),
        (conv(4, "odd", groups=2), "odd", "a convolution in groups"),
        (layers.BatchNormalization(axis=1, name="odd"), "odd", "over another axis"),
        (layers.Permute((3, 1, 2), name="odd"), "odd", "moves the axis"),
        (layers.Reshape((4, 8, 2), name="odd"), "odd", "it splits channels"),
        (layers.Rescaling([1.0, 2.0, 3.0, 4.0], name="odd"), "odd", "a scale of its own"),
        (layers.MaxPooling2D(data_format="channels_first", name="odd"), "odd", "its channels come first"),
        (lambda x: shared(shared(x)), "shared", "called more than once"),
        (lambda x: keras.ops.add(x, np.ones(4, np.float32)), "add", "a constant array"),
        (lambda x: x[..., :2], "get_item", "is not known"),
    ],
)
def test_what_no_rule_follows_is_named_and_all_that_it_touches_stays(
    layer: Callable[[Any], Any], name: str, reason: str
) -> None:
    keras.utils.clear_session()
    found = around(layer)
    (named,) = (key for key in found.left_alone if key.startswith(name))
    assert reason in found.left_alone[named]
    assert found.left_alone["before"].startswith(f"its channels go into {named!r}: ")
    assert makers(found) == [("after",)]
    assert found.unsupported == (named,)


@pytest.mark.parametrize("residual", [True, False])
def test_what_holds_nothing_back_is_not_called_unsupported(residual: bool) -> None:
    """The output layer, what is skipped, and what only the input goes through."""
    inputs = keras.Input((4, 4, 4))
    x = conv(4, "a")(layers.Rescaling([1.0, 2.0, 3.0, 4.0], name="odd")(inputs))
    if residual:
        x = layers.Add()([x, layers.BatchNormalization()(conv(4, "b")(x))])
    found = analyse(keras.Model(inputs, conv(2, "end")(x)), skip=("a",))
    assert {"odd", "a", "end"} <= set(found.left_alone)
    assert found.unsupported == ()


def test_what_learns_or_meets_what_a_layer_makes_is_called_unsupported() -> None:
    inputs = keras.Input((4, 4, 4))
    scaled = layers.Rescaling([1.0, 2.0, 3.0, 4.0], name="scaled")(inputs)
    x = layers.Add()([conv(4, "a")(inputs), scaled, conv(4, "odd", groups=2)(inputs)])
    assert analyse(keras.Model(inputs, conv(2, "end")(x))).unsupported == ("scaled", "odd")


def test_a_reshape_that_keeps_channels_last_is_followed() -> None:
    found = around(lambda x: layers.Reshape((1, 1, -1))(layers.Reshape((2, 8, 4))(x)))
    assert makers(found) == [("before",), ("after",)]


def test_skipped_layers_stay_with_all_that_is_coupled_to_them() -> None:
    model = make_network([("residual", 4)])
    assert "stem" in {maker for group in analyse(model).groups for maker in group.makers}
    left = analyse(model, skip=("stem",)).left_alone
    assert [layer for layer, reason in left.items() if reason == "the recipe skips it"] == [
        "stem",
        next(
            one.name for one in model.layers if isinstance(one, layers.Conv2D) and one.kernel_size == (1, 1)
        ),
    ]


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(BuildError, match="no such layer") as caught:
        analyse(make_network([]), skip=("stemm",))
    assert caught.value.code == "build.layer"
    assert "stem" in (caught.value.hint or "")
