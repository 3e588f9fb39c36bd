"""What a build would do, without doing it: its steps, and which of them are there already. Imports no
TensorFlow."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fleet_cloud.factory.keys import make_pass_key, make_training_key
from fleet_cloud.factory.recipe import Recipe, VariantRecipe
from fleet_cloud.factory.recipe.mistakes import FLOAT
from fleet_cloud.factory.recipe.passes import find_teacher, name_pass, seeks_goal
from fleet_cloud.factory.recipe.targets import resolve

Key = str | None
"""None: it depends on what only the build itself will know."""


@dataclass(frozen=True)
class PlannedStep:
    """``subject`` and ``name``: as of `events.StepBegan`."""

    subject: str
    name: str
    cached: bool


def plan_build(recipe: Recipe, samples: str, has: Callable[[str], bool]) -> list[PlannedStep]:
    """Return the steps of a build. ``samples``: the digest of its splits; ``has``: is a key in the cache?"""
    base = make_training_key(samples, recipe.architecture, recipe.training)
    teachers: dict[str, Key] = {FLOAT: base}
    steps = [PlannedStep(FLOAT, "training", has(base))]
    learned = {find_teacher(settings) for variant in recipe.variants for settings in variant.passes}
    for name, teacher in recipe.teachers.items():
        teachers[name] = None
        if teacher.architecture is not None and name in learned:
            key = make_training_key(samples, teacher.architecture, teacher.training)
            teachers[name] = key
            steps.append(PlannedStep(f"teacher {name}", "training", has(key)))
    for variant in recipe.variants:
        steps += _plan_variant(variant, base, teachers, has)
    return steps


def _plan_variant(
    variant: VariantRecipe, base: str, teachers: dict[str, Key], has: Callable[[str], bool]
) -> Iterator[PlannedStep]:
    key: Key = base
    for settings in resolve(variant):
        teacher = find_teacher(settings)
        unknown = key is None or seeks_goal(settings) or (teacher is not None and teachers[teacher] is None)
        known = None if teacher is None else teachers[teacher]
        key = None if unknown or key is None else make_pass_key(key, settings, known)
        yield PlannedStep(variant.name, name_pass(settings), key is not None and has(key))
