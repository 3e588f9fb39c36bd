"""The recipe: one YAML file that says how to build a model."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.recipe.architecture import Architecture
from fleet_cloud.factory.recipe.dataset import Dataset
from fleet_cloud.factory.recipe.search import Search
from fleet_cloud.factory.recipe.variants import DEFAULT_VARIANTS, Gates, VariantRecipe


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Training(_Part, frozen=True, kw_only=True):
    """``patience``: epochs without a better validation accuracy before training stops. ``epochs: 0`` takes a
    model of the user's own as it is."""

    epochs: Annotated[int, Meta(ge=0, le=100_000)] = 25
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
    """``search``: says what to try, and nothing of what is built."""

    model: str
    dataset: Dataset = Dataset()
    architecture: Architecture = Architecture()
    training: Training = Training()
    teachers: dict[str, Teacher] = {}
    variants: Annotated[tuple[VariantRecipe, ...], Meta(min_length=1)] = DEFAULT_VARIANTS
    gates: Gates = Gates()
    search: Search | None = None


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as it is kept in a version's lineage: what was built, not what was searched."""
    described: dict[str, Any] = msgspec.to_builtins(recipe)
    del described["search"]
    return described


def find_search(recipe: Recipe) -> Search:
    """Return what a recipe says of searching; raise `RecipeError` (``recipe.search``) for nothing."""
    if recipe.search is None:
        raise RecipeError(
            f"the recipe of {recipe.model} does not say what to search",
            hint="search: {passes: [{pass: prune-filters, fraction: {from: 0.1, to: 0.7}}, {pass: int8}]}",
            code="recipe.search",
        )
    return recipe.search


def limit_search(recipe: Recipe, minutes: float | None) -> Recipe:
    """Return the recipe with another time for its search, if one is given. Raises as `find_search`."""
    search = find_search(recipe)
    if minutes is None:
        return recipe
    return msgspec.structs.replace(recipe, search=msgspec.structs.replace(search, minutes=minutes))


def resolve_paths(recipe: Recipe, path: Path) -> Recipe:
    """Make paths absolute (they are relative to the recipe), and check them."""
    replace, dataset = msgspec.structs.replace, recipe.dataset
    return replace(
        recipe,
        dataset=replace(dataset, path=_find_path(path, "dataset.path", dataset.path)),
        architecture=_resolve_architecture(path, "architecture", recipe.architecture),
        teachers={name: _resolve_teacher(path, name, teacher) for name, teacher in recipe.teachers.items()},
    )


def _resolve_teacher(path: Path, name: str, teacher: Teacher) -> Teacher:
    key, architecture = f"teachers.{name}", teacher.architecture
    return msgspec.structs.replace(
        teacher,
        architecture=architecture and _resolve_architecture(path, f"{key}.architecture", architecture),
        file=_find_path(path, f"{key}.file", teacher.file),
    )


def _resolve_architecture(path: Path, key: str, architecture: Architecture) -> Architecture:
    return msgspec.structs.replace(
        architecture,
        path=_find_path(path, f"{key}.path", architecture.path),
        weights=_find_path(path, f"{key}.weights", architecture.weights),
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
