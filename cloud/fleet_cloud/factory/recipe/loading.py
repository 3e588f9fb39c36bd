"""Read a recipe, and find all that is wrong with it."""

from pathlib import Path
from typing import Any

import msgspec

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.recipe.mistakes import find_mistakes
from fleet_cloud.factory.recipe.problems import Problem, find_problems
from fleet_cloud.factory.recipe.recipe import Recipe, resolve_paths
from fleet_cloud.factory.strict_yaml import load_yaml


def load_recipe(path: Path) -> Recipe:
    """Return the recipe, its paths absolute; raise `RecipeError` naming file, key and what was expected."""
    recipe, problems = examine_recipe(path)
    if recipe is None or problems:
        first, more = problems[0], len(problems) - 1
        others = f" (and {more} more: fleet recipe check {path})" if more else ""
        raise RecipeError(f"{path}: {first}{others}", hint=first.hint, code=first.code)
    return recipe


def examine_recipe(path: Path) -> tuple[Recipe | None, list[Problem]]:
    """Return the recipe, none where it cannot be made out, and all problems that it has. Raises
    `RecipeError` for a file that cannot be read as YAML."""
    document = load_yaml(path)
    if problems := find_problems(document, Recipe):
        return None, problems
    recipe = msgspec.convert(document, Recipe)
    problems = find_mistakes(recipe)
    try:
        recipe = resolve_paths(recipe, path)
    except RecipeError as exc:
        problems.append(Problem("", exc.message.removeprefix(f"{path}: "), exc.hint, exc.code))
    return recipe, problems


def describe_schema() -> dict[str, Any]:
    """Return the JSON schema of recipes, by which editors complete and check."""
    schema = msgspec.json.schema(Recipe)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Fleet recipe",
        "description": "How to build a model: docs/recipes.md explains each key.",
        **schema,
    }
