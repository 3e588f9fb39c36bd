"""The recipe: one YAML file that says how to build a model."""

import re
from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.recipe.architecture import Architecture, find_fault
from fleet_cloud.factory.recipe.variants import DEFAULT_VARIANTS, Gates, VariantRecipe
from fleet_cloud.factory.strict_yaml import load_yaml
from fleet_shared.errors import InvalidName
from fleet_shared.names import parse_model_name, parse_variant_name

SplitFraction = Annotated[float, Meta(gt=0, lt=1)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Dataset(_Part, frozen=True, kw_only=True):
    """``kind``: ``digits`` (scikit-learn's, built in), ``images`` (folder or archive of
    CLASS/image files) or ``npz`` (arrays x and y). Fractions are of all samples. ``resize``, ``fit``
    and ``pad`` say how an image gets its size, here and on the device."""

    kind: Literal["digits", "images", "npz"] = "digits"
    path: str | None = None
    image_size: Annotated[int, Meta(ge=4, le=1024)] = 32
    validation_fraction: SplitFraction = 0.15
    test_fraction: SplitFraction = 0.2
    resize: Literal["nearest", "bilinear", "bicubic", "area"] = "bicubic"
    fit: Literal["stretch", "crop", "letterbox"] = "stretch"
    pad: Annotated[int, Meta(ge=0, le=255)] = 0


class Training(_Part, frozen=True, kw_only=True):
    """``patience``: epochs without a better validation accuracy before training stops."""

    epochs: Annotated[int, Meta(ge=1, le=100_000)] = 25
    batch_size: Annotated[int, Meta(ge=1, le=65_536)] = 64
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 0.002
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 1
    patience: Annotated[int, Meta(ge=1)] = 6


class Teacher(_Part, frozen=True, kw_only=True):
    """A network to learn from, one of: ``architecture``, trained here as ``training`` says; ``file``, a
    Keras model; ``version``, of the registry (``digits:1.2.0``), whose float network it is, or the last
    Keras model of its ``variant``."""

    architecture: Architecture | None = None
    training: Training = Training()
    file: str | None = None
    version: str | None = None
    variant: str | None = None


class Recipe(_Part, frozen=True, kw_only=True):
    model: str
    dataset: Dataset = Dataset()
    architecture: Architecture = Architecture()
    training: Training = Training()
    teachers: dict[str, Teacher] = {}
    variants: Annotated[tuple[VariantRecipe, ...], Meta(min_length=1)] = DEFAULT_VARIANTS
    gates: Gates = Gates()


_PARTS: Final[dict[str, type[msgspec.Struct]]] = {
    "dataset": Dataset,
    "architecture": Architecture,
    "training": Training,
    "variants": VariantRecipe,
    "gates": Gates,
}


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; raise `RecipeError` naming file, key and what was expected."""
    document = load_yaml(path)
    try:
        recipe = msgspec.convert(document, Recipe)
        parse_model_name(recipe.model)
        for variant in recipe.variants:
            parse_variant_name(variant.name)
    except InvalidName as exc:
        raise RecipeError(f"{path}: {exc.message}", hint=exc.hint) from exc
    except msgspec.ValidationError as exc:
        raise RecipeError(f"{path}: {exc}", hint=_suggest(str(exc))) from exc
    _check(recipe, path)
    return _resolve(recipe, path)


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as it is kept in a version's lineage."""
    described: dict[str, Any] = msgspec.to_builtins(recipe)
    return described


def _check(recipe: Recipe, path: Path) -> None:
    """Refuse what types and bounds alone do not catch. (A NaN passes no bound.)"""
    for name, count in Counter(variant.name for variant in recipe.variants).items():
        if count > 1:
            raise RecipeError(
                f"{path}: {count} variants called {name!r}", hint="give each variant a name of its own"
            )
    if (fault := find_fault(recipe.architecture)) is not None:
        raise RecipeError(f"{path}: architecture: {fault[0]}", hint=fault[1])
    dataset = recipe.dataset
    if dataset.validation_fraction + dataset.test_fraction >= 1:
        raise RecipeError(
            f"{path}: validation_fraction and test_fraction leave nothing to train on",
            hint="their sum must be below 1",
        )


def _resolve(recipe: Recipe, path: Path) -> Recipe:
    """Make paths absolute (they are relative to the recipe), and check them."""
    replace, dataset, architecture = msgspec.structs.replace, recipe.dataset, recipe.architecture
    if dataset.kind == "digits" and dataset.path is not None:
        raise RecipeError(
            f"{path}: dataset.path means nothing for the built-in digits",
            hint="choose kind: images or kind: npz for data of your own",
        )
    if dataset.kind != "digits" and dataset.path is None:
        raise RecipeError(f"{path}: dataset.path is needed for kind {dataset.kind!r}", hint="path: FILE")
    return replace(
        recipe,
        dataset=replace(dataset, path=_find_path(path, "dataset.path", dataset.path)),
        architecture=replace(
            architecture,
            path=_find_path(path, "architecture.path", architecture.path),
            weights=_find_path(path, "architecture.weights", architecture.weights),
        ),
    )


def _find_path(path: Path, key: str, given: str | None) -> str | None:
    """Return the absolute path that the recipe at ``path`` means."""
    if given is None:
        return None
    try:
        return str((path.parent / given).resolve(strict=True))
    except FileNotFoundError as exc:
        raise RecipeError(
            f"{path}: {key} {path.parent / given} does not exist",
            hint="paths are relative to the recipe",
            code="recipe.file.missing",
        ) from exc
    except (OSError, ValueError, RuntimeError) as exc:  # too long, a NUL byte, a loop of links
        raise RecipeError(
            f"{path}: {key} {given[:100]!r} is no path: {exc}",
            hint="write the path of a file or folder",
        ) from exc


def _suggest(message: str) -> str:
    """Return what may help: the value or key that was meant, or the keys that may stand there."""
    where = re.search(r"at `\$\.?(\w*)(?:\[(?:\.\.\.|\d+)\])?(?:\.(\w+))?`", message)
    section, key = (where.group(1), where.group(2)) if where else ("", None)
    if "learning_rate" in message and "`str`" in message:
        return "YAML reads 2e-3 as text: write 0.002 or 2.0e-3"
    if (quoted := re.search(r"Invalid enum value '([^']*)'", message)) is not None:
        choices = _choices(section, key)
        close = get_close_matches(quoted.group(1), choices, 1)
        return f"did you mean {close[0]!r}?" if close else f"expected {' or '.join(choices)}"
    keys = _PARTS.get(section, Recipe).__struct_fields__
    if (unknown := re.search(r"unknown field `([^`]*)`", message)) is not None:
        if unknown.group(1) == "quantize":
            return "write passes: [{pass: int8}] in its place"
        close = get_close_matches(unknown.group(1), keys, 1)
        return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(keys)}"
    return f"the keys are {', '.join(keys)}; docs/recipes.md explains them"


def _choices(section: str, key: str | None) -> list[str]:
    for field in msgspec.structs.fields(_PARTS.get(section, Recipe)):
        if field.name == key:
            return [str(choice) for choice in getattr(field.type, "__args__", ())]
    return []
