"""Networks to learn from: trained here, read from a file, or fetched from the registry before the build."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from fleet_cloud.errors import BuildError, Invalid, RecipeError
from fleet_cloud.factory.keras_file import read_keras
from fleet_cloud.factory.keys import digest_content, make_file_key, make_training_key
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.own_models import check_fits, take_own_model
from fleet_cloud.factory.pipeline import Pipeline, Place
from fleet_cloud.factory.recipe import Architecture, Recipe, Teacher, Training

Train = Callable[[Architecture, Training, Lab], Outcome]
"""Trains a network of an architecture on the splits of the build."""


def add_teachers(
    recipe: Recipe, samples: str, pipeline: Pipeline, train: Train, fetched: Mapping[str, bytes]
) -> None:
    """Make the teachers of a recipe known to the pipeline; none is made before it is needed. ``samples``: the
    digest of the splits; ``fetched``: the Keras files of those that are versions, by the teacher's name."""
    for name, teacher in recipe.teachers.items():
        if teacher.architecture is not None:
            key = make_training_key(samples, teacher.architecture, teacher.training)
            compute = partial(train, teacher.architecture, teacher.training)
        else:
            content = _find_content(name, teacher, fetched)
            key = make_file_key(samples, digest_content(content))
            compute = partial(_read, name, content)
        place = Place(f"teacher {name}")
        pipeline.add_teacher(name, key, partial(pipeline.begin, place, key, compute))


def _find_content(name: str, teacher: Teacher, fetched: Mapping[str, bytes]) -> bytes:
    if teacher.file is None:
        return fetched[name]
    try:
        return Path(teacher.file).read_bytes()
    except OSError as exc:
        raise _bad_teacher(name, f"{teacher.file} cannot be read: {exc.strerror}") from exc


def _read(name: str, content: bytes, lab: Lab) -> Outcome:
    """A teacher answers the same question: the same samples in, the same classes out. Its last softmax is
    taken off, for losses want logits."""
    try:
        model = read_keras(content)
    except Exception as exc:
        raise _bad_teacher(name, f"its file is no Keras model that can be read: {exc}") from exc
    try:
        own = take_own_model(model, "it")
        check_fits(own, lab)
    except (RecipeError, Invalid) as exc:
        raise _bad_teacher(name, exc.message) from exc
    return Outcome(Network(own.model))


def _bad_teacher(name: str, why: str) -> BuildError:
    return BuildError(
        f"the teacher {name!r} cannot be used: {why}",
        hint="a teacher is a Keras model (.keras or .h5) for the same samples and classes",
        code="build.teacher",
    )
