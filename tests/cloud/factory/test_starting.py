"""What training starts from: an architecture for the data, or a model of the user's own."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from fleet_cloud.errors import Invalid, RecipeError
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.recipe import Architecture
from fleet_cloud.factory.starting import make_start
from tests.cloud.factory.small import CLASSES, SIZE, make_lab, unlabelled

SOURCE = """
import keras

def make(shape, outputs):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(outputs or 2)])
"""


def without_labels(lab: Lab) -> Lab:
    return replace(unlabelled(lab), labels=())


def with_values(lab: Lab, outputs: int) -> Lab:
    values = Part(lab.train.x, np.zeros((len(lab.train), outputs), np.float32))
    return replace(lab, train=values, validation=values, labels=(), task="regression")


def own(folder: Path) -> Architecture:
    (folder / "mine.py").write_text(SOURCE)
    return Architecture(kind="python", path=str(folder / "mine.py"), function="make")


def test_an_architecture_gets_an_output_for_each_class_or_value() -> None:
    small = Architecture(kind="small-cnn", units=2)
    start = make_start(small, make_lab(8))
    assert (start.head, start.model.output.shape) == ("softmax", (None, CLASSES))
    start = make_start(small, with_values(make_lab(8), 3))
    assert (start.head, start.model.output.shape) == ("none", (None, 3))
    assert start.model.input.shape == (None, SIZE, SIZE, 1)


def test_without_labels_only_a_model_of_ones_own_can_start(tmp_path: Path) -> None:
    lab = without_labels(make_lab(8))
    with pytest.raises(RecipeError, match="nothing says what the samples are") as caught:
        make_start(Architecture(), lab)
    assert caught.value.code == "recipe.architecture"
    assert make_start(own(tmp_path), lab, allow_code=True).model.output.shape == (None, 2)


def test_code_needs_leave_and_what_comes_of_it_must_fit(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        make_start(own(tmp_path), make_lab(8))
    assert caught.value.code == "model.code"
    assert make_start(own(tmp_path), make_lab(8), allow_code=True).model.output.shape == (None, CLASSES)
    assert make_start(own(tmp_path), with_values(make_lab(8), 3), allow_code=True).head == "none"


def test_a_model_of_another_number_of_values_or_with_a_softmax_is_refused(tmp_path: Path) -> None:
    inputs = keras.Input((SIZE, SIZE, 1))
    flat = keras.layers.Flatten()(inputs)
    for activation, message in (
        (None, "gives 3 values, and the data set has 2"),
        ("softmax", "ends in a softmax"),
    ):
        model = keras.Model(inputs, keras.layers.Dense(3, activation=activation)(flat))
        with pytest.warns(DeprecationWarning, match="__array__"):  # Keras' own
            model.save(tmp_path / "own.keras")
        architecture = Architecture(kind="file", path=str(tmp_path / "own.keras"))
        with pytest.raises(RecipeError, match=message):
            make_start(architecture, with_values(make_lab(8), 2))
