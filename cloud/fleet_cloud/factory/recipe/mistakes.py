"""What types and bounds alone do not catch in a recipe. Pure: no file is looked at."""

from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from fleet_cloud.factory.recipe.architecture import OWN, find_fault, has_layers
from fleet_cloud.factory.recipe.dataset import find_dataset_fault
from fleet_cloud.factory.recipe.order import FORMATS, find_nonsense
from fleet_cloud.factory.recipe.passes import Int8, Settings, find_teacher, name_pass, tunes_in_vain
from fleet_cloud.factory.recipe.problems import Problem
from fleet_cloud.factory.recipe.recipe import Recipe, Teacher
from fleet_cloud.factory.recipe.search import Search, draw_ends, find_search_problems
from fleet_cloud.factory.recipe.variants import Gates, VariantRecipe
from fleet_cloud.factory.recipe.weaker import weaken
from fleet_shared.errors import FleetError
from fleet_shared.names import parse_model_name, parse_variant_name
from fleet_shared.version import Version

IN_VAIN: Final = (
    "int8 trains only with aware: true",
    "add aware: true; or train before it with pass: train",
)
FLOAT: Final = "float"
"""The teacher that is always there: the network before its first pass."""


def find_mistakes(recipe: Recipe) -> list[Problem]:
    """Return all of them, in the order of the recipe's keys."""
    return [
        *_find_bad_name("model", recipe.model),
        *_find_fault("dataset", find_dataset_fault(recipe.dataset)),
        *_find_fault("architecture", find_fault(recipe.architecture)),
        *_find_idleness(recipe),
        *(problem for name, teacher in recipe.teachers.items() for problem in _check_teacher(name, teacher)),
        *_find_repeated(recipe),
        *_find_unknown("gates", recipe.gates, recipe),
        *(
            problem
            for number, variant in enumerate(recipe.variants)
            for problem in _check_variant(f"variants[{number}]", variant, recipe)
        ),
        *(() if recipe.search is None else _check_search(recipe.search, recipe)),
    ]


def parse_reference(text: str) -> tuple[str, Version]:
    """Return model and version of ``digits:1.2.0``; raise `InvalidName` for anything else."""
    model, _, number = text.partition(":")
    return parse_model_name(model), Version.parse(number)


def _find_bad_name(key: str, name: str) -> Iterator[Problem]:
    try:
        if key == "model":
            parse_model_name(name)
        else:
            parse_variant_name(name)
    except FleetError as exc:
        yield Problem(key, exc.message, exc.hint)


def _find_fault(key: str, fault: tuple[str, str] | None) -> Iterator[Problem]:
    if fault is not None:
        yield Problem(key, *fault)


def _find_idleness(recipe: Recipe) -> Iterator[Problem]:
    if not recipe.training.epochs and recipe.architecture.kind not in OWN:
        yield Problem(
            "training.epochs",
            "with no epochs nothing is learned",
            "epochs: 0 is for a model that is trained already: architecture: {kind: file, path: FILE}",
        )


def _check_teacher(name: str, teacher: Teacher) -> Iterator[Problem]:
    key = f"teachers.{name}"
    yield from _find_bad_name(key, name)
    if name == FLOAT:
        yield Problem(key, f"{FLOAT!r} is the network of this recipe itself", "choose another name")
    if teacher.architecture is not None:
        yield from _find_fault(f"{key}.architecture", find_fault(teacher.architecture))
    given = [field for field in ("architecture", "file", "version") if getattr(teacher, field) is not None]
    if len(given) != 1:
        why = "says nothing of what it is" if not given else f"is given as {' and as '.join(given)}"
        yield Problem(key, f"the teacher {why}", "one of architecture (with training), file, version")
    if teacher.variant is not None and teacher.version is None:
        yield Problem(f"{key}.variant", "a variant is one of a version", "version: MODEL:X.Y.Z")
    if teacher.version is not None:
        try:
            parse_reference(teacher.version)
        except FleetError as exc:
            yield Problem(f"{key}.version", exc.message, "write MODEL:X.Y.Z, such as digits:1.2.0")


def _find_repeated(recipe: Recipe) -> Iterator[Problem]:
    for name, count in Counter(variant.name for variant in recipe.variants).items():
        if count > 1:
            yield Problem(
                "variants", f"{count} variants called {name!r}", "each variant has a name of its own"
            )


def _check_variant(key: str, variant: VariantRecipe, recipe: Recipe) -> Iterator[Problem]:
    yield from _find_bad_name(f"{key}.name", variant.name)
    for one in find_nonsense(variant.passes, variant.target):
        yield Problem(f"{key}.passes[{one.index}]", one.why, one.hint)
    for index, settings in enumerate(variant.passes):
        yield from _check_pass(f"{key}.passes[{index}]", settings, recipe)
        if tunes_in_vain(settings):
            yield Problem(f"{key}.passes[{index}].tune", *IN_VAIN)
    yield from _find_unknown(f"{key}.gates", variant.gates, recipe)
    if variant.back_off and not any(weaken(settings) for settings in variant.passes):
        yield Problem(
            f"{key}.back_off",
            "none of the passes can be weakened",
            "leave back_off out",
        )


def _find_unknown(key: str, gates: Gates, recipe: Recipe) -> Iterator[Problem]:
    """Gates on what nobody will know are never held."""
    dataset = recipe.dataset
    unknown: dict[str, str] = {}
    if dataset.task != "classification":
        of_classes = ("accuracy_min", "accuracy_drop_max", "agreement_min")
        unknown = dict.fromkeys(of_classes, "it is of classes, and the task is regression")
    elif dataset.labels == "none" or dataset.kind == "none":
        of_labels = ("accuracy_min", "accuracy_drop_max")
        unknown = dict.fromkeys(of_labels, "there are no labels, and accuracy stays unknown")
    for name, why in unknown.items():
        if getattr(gates, name) is not None:
            known = [one for one in gates.__struct_fields__ if one not in unknown]
            yield Problem(f"{key}.{name}", why, f"gates that can be held here: {', '.join(known)}")


def _check_pass(key: str, settings: Settings, recipe: Recipe) -> Iterator[Problem]:
    """A teacher is known; a file without layers can be kept in another number format, and that is all."""
    known, teacher = [FLOAT, *recipe.teachers], find_teacher(settings)
    if teacher is not None and teacher not in known:
        close = get_close_matches(teacher, known, 1)
        yield Problem(
            f"{key}.tune.distil.teacher",
            f"there is no teacher {teacher!r}",
            f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}",
        )
    trains = isinstance(settings, Int8) and (settings.aware or settings.recover)
    if not has_layers(recipe.architecture) and (trains or not isinstance(settings, FORMATS)):
        yield Problem(
            key,
            f"{name_pass(settings)} works on layers, and the model's file has none that are known",
            "give the model as .keras or .h5; else float16, dynamic-range, int8 (not aware) or int16x8",
        )


def _check_search(search: Search, recipe: Recipe) -> Iterator[Problem]:
    dataset = recipe.dataset
    if dataset.task != "classification" or dataset.labels == "none" or dataset.kind == "none":
        yield Problem(
            "search",
            "accuracy is what a search weighs, and here nobody knows it",
            "it needs classes and labels",
        )
    problems = find_search_problems(search)
    if not problems:
        found = (
            problem
            for index, settings in draw_ends(search)
            for problem in _check_pass(f"search.passes[{index}]", settings, recipe)
        )
        problems = list(dict.fromkeys(found))
    yield from problems
    vain = Counter(index for index, one in draw_ends(search) if tunes_in_vain(one)) if not problems else {}
    for index, ends in vain.items():
        if ends == 2:  # whatever is drawn
            yield Problem(f"search.passes[{index}].tune", *IN_VAIN)
