"""Architectures: their shapes, their names, how many weights they have, and what they refuse."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.architectures import build_model, check_architecture
from fleet_cloud.factory.architectures.mobilenet_v2 import round_filters
from fleet_cloud.factory.network import array_of
from fleet_cloud.factory.recipe import Architecture

# Keras copies variables in a way that numpy 2 means to change when it saves them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

EACH = [
    (Architecture(kind="mlp", units=2), (5,)),
    (Architecture(kind="mlp", units=2), (4, 4, 1)),
    (Architecture(kind="small-cnn", units=2), (8, 8, 1)),
    (Architecture(kind="small-cnn", units=2), (20, 24, 3)),
    (Architecture(kind="ds-cnn", units=4, depth=2), (49, 10, 1)),
    (Architecture(kind="resnet", units=2, depth=14), (9, 7, 3)),
    (Architecture(kind="mobilenet-v2", width=0.1), (32, 32, 3)),
]


@pytest.mark.parametrize(("architecture", "shape"), EACH)
def test_a_model_takes_samples_of_its_shape_and_gives_logits(
    architecture: Architecture, shape: tuple[int, ...]
) -> None:
    check_architecture(architecture, shape)
    model = build_model(architecture, shape, 5)
    assert (model.input.shape, model.output.shape) == ((None, *shape), (None, 5))
    last = model.layers[-1]
    assert isinstance(last, keras.layers.Dense)
    assert last.activation is keras.activations.linear


@pytest.mark.parametrize(("architecture", "shape"), EACH)
def test_names_follow_from_the_settings_alone(architecture: Architecture, shape: tuple[int, ...]) -> None:
    first, second = (
        [weight.path for weight in build_model(architecture, shape, 5).weights] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("depth", [8, 20, 56])
def test_a_resnet_has_as_many_weighted_layers_as_it_says(depth: int) -> None:
    model = build_model(Architecture(kind="resnet", units=4, depth=depth), (32, 32, 3), 10)
    shortcuts = [layer for layer in model.layers if layer.name.endswith("shortcut")]
    weighted = [
        layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
    ]
    assert len(weighted) - len(shortcuts) == depth
    assert len(shortcuts) == 2
    assert model.get_layer("stage3_block1_add").output.shape[1:] == (8, 8, 16)


def test_the_resnet_of_mlperf_tiny_has_as_many_parameters_as_its_authors_count() -> None:
    model = build_model(Architecture(kind="resnet", depth=8), (32, 32, 3), 10)
    assert model.count_params() == 78_666


def test_the_ds_cnn_of_mlperf_tiny() -> None:
    model = build_model(Architecture(kind="ds-cnn"), (49, 10, 1), 12)
    assert model.get_layer("stem_conv").kernel.shape == (10, 4, 1, 64)
    assert model.get_layer("stem_conv").output.shape == (None, 25, 5, 64)
    trained = 10 * 4 * 64 + 4 * (9 * 64 + 64 * 64) + 64 * 12 + 12 + 9 * 2 * 64
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == trained


@pytest.mark.parametrize(
    ("filters", "rounded"), [(1, 8), (12, 16), (11.2, 16), (33.6, 32), (11, 16), (24, 24)]
)
def test_filters_are_multiples_of_eight_and_hardly_fewer(filters: float, rounded: int) -> None:
    assert round_filters(filters) == rounded
    assert rounded >= 0.9 * filters


def test_mobilenet_is_that_of_keras_weight_for_weight() -> None:
    ours = build_model(Architecture(kind="mobilenet-v2", width=0.35), (33, 40, 3), 3)
    theirs = _keras_mobilenet((33, 40, 3), 3)
    assert _shapes(ours) == _shapes(theirs)
    ours.set_weights(theirs.get_weights())
    x = np.random.default_rng(1).normal(size=(2, 33, 40, 3)).astype(np.float32)
    np.testing.assert_allclose(array_of(ours(x)), array_of(theirs(x)), atol=1e-6)


def test_weights_come_from_a_file_but_for_classes_of_ones_own(tmp_path: Path) -> None:
    theirs = _keras_mobilenet((32, 32, 3), 7)
    for name in ("all.weights.h5", "legacy.h5"):
        file = tmp_path / name
        theirs.save_weights(file) if "weights" in name else theirs.save(file)
        architecture = Architecture(kind="mobilenet-v2", width=0.35, weights=str(file))
        model = build_model(architecture, (32, 32, 3), 3)
        for path, weight in _shapes_and_values(model)[:-2]:
            np.testing.assert_array_equal(weight, dict(_shapes_and_values(theirs))[path], err_msg=path)
        assert model.output.shape == (None, 3)


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    _keras_mobilenet((32, 32, 3), 3).save_weights(tmp_path / "a.weights.h5")
    wide = Architecture(kind="mobilenet-v2", width=0.5, weights=str(tmp_path / "a.weights.h5"))
    with pytest.raises(RecipeError, match="no weights for layer") as caught:
        build_model(wide, (32, 32, 3), 3)
    assert caught.value.code == "recipe.architecture"


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no weights at all")
    with pytest.raises(RecipeError, match="cannot be read"):
        build_model(Architecture(kind="mobilenet-v2", weights=str(tmp_path / "a.h5")), (32, 32, 3), 3)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("small-cnn", (3, 9, 1)), ("resnet", (9,)), ("mobilenet-v2", (31, 64, 3)), ("ds-cnn", (49, 3, 1))],
)
def test_samples_that_do_not_fit_are_refused(kind: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match=f"{kind} takes images of at least") as caught:
        check_architecture(Architecture(kind=kind), shape)
    assert caught.value.code == "recipe.architecture"


def _keras_mobilenet(shape: tuple[int, ...], classes: int) -> Any:
    return keras.applications.MobileNetV2(
        shape, alpha=0.35, weights=None, classes=classes, classifier_activation=None
    )


def _shapes(model: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(weight.path, weight.shape) for weight in model.weights]


def _shapes_and_values(model: Any) -> list[tuple[str, Any]]:
    return [(weight.path, array_of(weight)) for weight in model.weights]
