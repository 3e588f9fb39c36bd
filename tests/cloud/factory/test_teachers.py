"""Teachers: made when they are needed, and refused when they answer another question."""

from pathlib import Path

import keras
import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.keras_file import write_keras
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.pipeline import Made, Pipeline
from fleet_cloud.factory.recipe import Architecture, Recipe, Teacher, Training
from fleet_cloud.factory.recipe.passes import Distil, Train, Tune
from fleet_cloud.factory.teachers import add_teachers
from tests.cloud.factory.small import make_lab, make_model, make_network

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


def make_other(shape: tuple[int, ...], outputs: int) -> bytes:
    inputs = keras.Input(shape)
    return write_keras(keras.Model(inputs, keras.layers.Dense(outputs)(keras.layers.Flatten()(inputs))))


@pytest.mark.parametrize(
    ("shape", "outputs", "why"),
    [((8, 8, 1), 5, "gives 5 classes, expected"), ((9, 8, 1), 4, "takes (9, 8, 1)")],
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
