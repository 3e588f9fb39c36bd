"""What a build would do, without doing it: its steps, and which of them are there already. Imports no
TensorFlow."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from fleet_cloud.factory.cache import Cache
from fleet_cloud.factory.data import load_splits
from fleet_cloud.factory.keys import digest_splits, make_pass_key, make_training_key
from fleet_cloud.factory.recipe import Recipe, VariantRecipe, merge_gates
from fleet_cloud.factory.recipe.architecture import has_layers
from fleet_cloud.factory.recipe.mistakes import FLOAT
from fleet_cloud.factory.recipe.passes import find_teacher, name_pass, seeks_goal
from fleet_cloud.factory.recipe.targets import resolve
from fleet_cloud.factory.recipe.weaker import describe_passes

Key = str | None
"""None: it depends on what only the build itself will know."""


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """As of `events.StepBegan`, ``step`` being its ``name``."""

    subject: str
    name: str
    number: int = 1
    steps: int = 1
    cached: bool


class PlannedVariant(msgspec.Struct, frozen=True, kw_only=True):
    """``passes`` in one line; ``gates``: ``accuracy_min 0.95``."""

    name: str
    target: str
    passes: str
    gates: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    data: str
    steps: tuple[PlannedStep, ...]
    variants: tuple[PlannedVariant, ...]


def plan_recipe(recipe: Recipe, folder: Path) -> Plan:
    """Read the data of a recipe and return what its build would do; ``folder``: that of the cache. Raises
    `RecipeError` for data that cannot be used."""
    splits = load_splits(recipe.dataset, recipe.training.seed)
    cache = Cache(folder, lambda _warning: None)
    return Plan(
        model=recipe.model,
        data=f"{recipe.dataset.kind}: {splits.describe()}",
        steps=tuple(plan_steps(recipe, digest_splits(splits), cache.has)),
        variants=tuple(_describe_variant(recipe, variant) for variant in recipe.variants),
    )


def _describe_variant(recipe: Recipe, variant: VariantRecipe) -> PlannedVariant:
    gates = msgspec.structs.asdict(merge_gates(recipe.gates, variant.gates))
    return PlannedVariant(
        name=variant.name,
        target=variant.target,
        passes=describe_passes(variant.passes),
        gates=tuple(f"{name} {value:g}" for name, value in gates.items() if value is not None),
    )


def plan_steps(recipe: Recipe, samples: str, has: Callable[[str], bool]) -> list[PlannedStep]:
    """Return the steps of a build. ``samples``: the digest of its splits; ``has``: is a key in the cache?"""
    if not has_layers(recipe.architecture):  # nothing of it is kept: a file is soon converted again
        return [step for one in recipe.variants for step in _plan_variant(one, None, {FLOAT: None}, has)]
    base = make_training_key(samples, recipe.architecture, recipe.training)
    teachers: dict[str, Key] = {FLOAT: base}
    steps = [PlannedStep(subject=FLOAT, name="training", cached=has(base))]
    learned = {find_teacher(settings) for variant in recipe.variants for settings in variant.passes}
    for name, teacher in recipe.teachers.items():
        teachers[name] = None
        if teacher.architecture is not None and name in learned:
            key = make_training_key(samples, teacher.architecture, teacher.training)
            teachers[name] = key
            steps.append(PlannedStep(subject=f"teacher {name}", name="training", cached=has(key)))
    for variant in recipe.variants:
        steps += _plan_variant(variant, base, teachers, has)
    return steps


def _plan_variant(
    variant: VariantRecipe, base: Key, teachers: dict[str, Key], has: Callable[[str], bool]
) -> Iterator[PlannedStep]:
    key: Key = base
    for number, settings in enumerate(resolve(variant), 1):
        teacher = find_teacher(settings)
        unknown = key is None or seeks_goal(settings) or (teacher is not None and teachers[teacher] is None)
        known = None if teacher is None else teachers[teacher]
        key = None if unknown or key is None else make_pass_key(key, settings, known)
        yield PlannedStep(
            subject=variant.name,
            name=name_pass(settings),
            number=number,
            steps=len(variant.passes),
            cached=key is not None and has(key),
        )
