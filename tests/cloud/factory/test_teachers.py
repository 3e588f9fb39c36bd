"""Teachers: made when they are needed, and refused when they answer another question."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.keras_file import write_keras
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.pipeline import Made, Pipeline
from fleet_cloud.factory.recipe import Architecture, Recipe, Teacher, Training
from fleet_cloud.factory.recipe.passes import Distil, Train, Tune
from fleet_cloud.factory.teachers import add_teachers
from tests.cloud.factory.small import make_lab, make_model, make_network, unlabelled

LEARN = Train(tune=Tune(epochs=1, batch_size=16, distil=Distil(teacher="big")))


def learn(teacher: Teacher, fetched: dict[str, bytes] | None = None) -> tuple[Made, list[Architecture]]:
    """Train a network once with this teacher; return it, and the architectures that were trained for it."""
    trained: list[Architecture] = []

    def train(architecture: Architecture, _training: Training, _lab: Lab) -> Outcome:
        trained.append(architecture)
        return Outcome(make_network(width=6, seed=2))

    pipeline = Pipeline(make_lab(16), "quarters")
    recipe = Recipe(model="quarters", teachers={"big": teacher})
    add_teachers(recipe, "samples", pipeline, train, fetched or {})
    return pipeline.run("variant", Made(make_network(), "float"), [LEARN]), trained


def test_one_that_is_trained_here() -> None:
    architecture = Architecture(units=6)
    made, trained = learn(Teacher(architecture=architecture))
    assert trained == [architecture]
    assert made.steps[0].facts["teacher"] == "big"


def test_one_from_a_file_and_one_that_was_fetched_are_the_same_teacher(tmp_path: Path) -> None:
    content = write_keras(make_model(6, seed=2))
    (tmp_path / "big.keras").write_bytes(content)
    from_file, trained = learn(Teacher(file=str(tmp_path / "big.keras")))
    fetched, _ = learn(Teacher(version="quarters:1.0.0"), {"big": content})
    assert trained == []
    assert from_file.key == fetched.key


def with_softmax() -> Any:
    model = make_model(6, seed=2)
    return keras.Model(model.input, keras.layers.Softmax()(model.output))


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_one_that_ends_in_a_softmax_teaches_what_its_logits_do(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"big{suffix}"
    keras.saving.save_model(with_softmax(), file)
    found, _ = learn(Teacher(file=str(file)))
    expected, _ = learn(Teacher(version="quarters:1.0.0"), {"big": write_keras(make_model(6, seed=2))})
    assert found.steps[0].facts["history"] == expected.steps[0].facts["history"]


def test_samples_without_labels_are_learned_from_a_file() -> None:
    lab = make_lab(16)
    lab = replace(unlabelled(lab), validation=Part(lab.validation.x, None), labels=())
    only = Train(tune=Tune(epochs=1, batch_size=16, distil=Distil(teacher="big", weight=1)))
    pipeline = Pipeline(lab, "quarters")
    recipe = Recipe(model="quarters", teachers={"big": Teacher(version="quarters:1.0.0")})
    add_teachers(recipe, "samples", pipeline, never, {"big": write_keras(with_softmax())})
    made = pipeline.run("variant", Made(make_network(), "float"), [only])
    assert made.steps[0].facts["teacher"] == "big"


def never(_architecture: Architecture, _training: Training, _lab: Lab) -> Outcome:
    raise AssertionError("nothing is to be trained")


def make_other(shape: tuple[int, ...], outputs: int) -> bytes:
    inputs = keras.Input(shape)
    return write_keras(keras.Model(inputs, keras.layers.Dense(outputs)(keras.layers.Flatten()(inputs))))


@pytest.mark.parametrize(
    ("shape", "outputs", "why"),
    [
        ((8, 8, 1), 5, "tells 5 classes apart, and the data set has 4"),
        ((9, 8, 1), 4, "takes samples of (9, 8, 1)"),
    ],
)
def test_one_that_does_not_fit_is_refused_by_name(shape: tuple[int, ...], outputs: int, why: str) -> None:
    assert why in refuse(make_other(shape, outputs)).message


def test_what_is_no_model_is_refused() -> None:
    assert "no Keras model that can be read" in refuse(b"no model").message


def refuse(content: bytes) -> BuildError:
    with pytest.raises(BuildError) as caught:
        learn(Teacher(version="quarters:1.0.0"), {"big": content})
    assert caught.value.code == "build.teacher"
    assert "'big'" in caught.value.message
    return caught.value


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"gone\.keras cannot be read"):
        learn(Teacher(file=str(tmp_path / "gone.keras")))
