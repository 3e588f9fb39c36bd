"""Which layers are compared, when nobody says so."""

from typing import Any

import keras
import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.distillation.pairs import find_pairs, find_stages
from fleet_cloud.factory.recipe.passes import AttentionPair


def residual(size: int = 16, width: int = 2, prefix: str = "") -> Any:
    """Two stages, each with an addition, then a pooling that convolves nothing."""
    layers = keras.layers
    inputs = keras.Input((size, size, 1))
    x = layers.Conv2D(width, 3, padding="same", name=f"{prefix}stem")(inputs)
    for number, stride in enumerate((1, 2)):
        y = layers.Conv2D(width, 3, strides=stride, padding="same", name=f"{prefix}conv{number}")(x)
        x = layers.Conv2D(width, 1, strides=stride, name=f"{prefix}short{number}")(x)
        x = layers.ReLU(name=f"{prefix}end{number}")(layers.Add(name=f"{prefix}add{number}")([x, y]))
    x = layers.MaxPooling2D(name=f"{prefix}pool")(x)
    return keras.Model(inputs, layers.Dense(3, name=f"{prefix}head")(layers.Flatten()(x)))


def test_a_stage_ends_with_its_last_layer_and_a_pooling_is_none() -> None:
    assert find_stages(residual()) == {(16, 16): "end0", (8, 8): "end1"}


def test_stages_of_the_same_size_are_paired() -> None:
    pairs = find_pairs(residual(), residual(width=4, prefix="t_"))
    assert [(pair.student, pair.teacher) for pair in pairs] == [("end0", "t_end0"), ("end1", "t_end1")]
    (pair,) = find_pairs(residual(8), residual(16, prefix="t_"))
    assert (pair.student, pair.teacher) == ("end0", "t_end1"), "8x8 is the first here, the last there"


def test_without_a_size_in_common_the_last_stages_are_paired() -> None:
    (pair,) = find_pairs(residual(16), residual(20, prefix="t_"))
    assert (pair.student, pair.teacher) == ("end1", "t_end1")


def test_pairs_that_are_named_are_taken() -> None:
    named = (AttentionPair(student="conv0", teacher="t_add1"),)
    assert find_pairs(residual(), residual(prefix="t_"), named) == named


@pytest.mark.parametrize(
    ("pair", "whose"),
    [(("nothing", "t_end0"), "the student"), (("end0", "t_head"), "the teacher")],
)
def test_names_that_have_no_image_are_refused(pair: tuple[str, str], whose: str) -> None:
    named = (AttentionPair(student=pair[0], teacher=pair[1]),)
    with pytest.raises(BuildError, match=whose) as caught:
        find_pairs(residual(), residual(prefix="t_"), named)
    assert caught.value.code == "build.pairs"
    assert "end0" in caught.value.hint


def test_a_network_without_convolutions_has_no_attention() -> None:
    inputs = keras.Input((16, 16, 1))
    dense = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    with pytest.raises(BuildError, match="the student has no convolutions") as caught:
        find_pairs(dense, residual())
    assert caught.value.code == "build.pairs"
