"""``fleet recipe check | new | schema``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from fleet_cloud.entrypoints.cli.output import Format, Output, print_json, print_table

if TYPE_CHECKING:
    from fleet_cloud.factory.plan import Plan
    from fleet_cloud.factory.recipe import Problem

app = typer.Typer(help="Recipes: how models are built.", no_args_is_help=True)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="Recipe file (YAML).")],
    output: Output = Format.TABLE,
) -> None:
    """Check a recipe and its data, and show what would be built. Nothing is computed."""
    from fleet_cloud.factory.recipe import examine_recipe

    recipe, problems = examine_recipe(file)
    if recipe is None or problems:
        if output is Format.JSON:
            print_json({"recipe": str(file), "problems": problems})
        _print_problems(file, problems)
        sys.exit(1)
    import os

    from fleet_cloud.factory.cache import find_folder
    from fleet_cloud.factory.plan import plan_recipe

    plan = plan_recipe(recipe, find_folder(os.environ))
    if output is Format.JSON:
        print_json({"recipe": str(file), "problems": [], "plan": plan})
    else:
        _print_plan(plan)


@app.command("new")
def new(
    file: Annotated[
        Path | None, typer.Argument(help="File to write; else the recipe goes to standard output.")
    ] = None,
) -> None:
    """Write a recipe to begin with, each key explained, and beside it the schema for editors."""
    from fleet_cloud.errors import RecipeError
    from fleet_cloud.factory.recipe import SCHEMA_NAME, describe_schema, write_example

    text = write_example(SCHEMA_NAME)
    if file is None:
        sys.stdout.write(text)
        return
    try:
        with file.open("x", encoding="utf-8") as target:
            target.write(text)
        (file.parent / SCHEMA_NAME).write_bytes(_write_json(describe_schema()))
    except FileExistsError as exc:
        raise RecipeError(f"{file} exists", hint="choose another name", code="recipe.exists") from exc
    except OSError as exc:
        raise RecipeError(
            f"{file} cannot be written: {exc.strerror}", hint="choose another folder", code="recipe.output"
        ) from exc
    print(f"{file} builds handwritten digits as it is: fleet build {file}")
    print(f"{file.parent / SCHEMA_NAME} lets editors complete and check it")


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of recipes."""
    from fleet_cloud.factory.recipe import describe_schema

    sys.stdout.write(_write_json(describe_schema()).decode())


def _write_json(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _print_problems(file: Path, problems: "list[Problem]") -> None:
    for problem in problems:
        print(f"error[{problem.code}]: {file}: {problem}", file=sys.stderr)
        if problem.hint:
            print(f"  hint: {problem.hint}", file=sys.stderr)


def _print_plan(plan: "Plan") -> None:
    print(f"{plan.model} from {plan.data}\n")
    rows = [
        (
            step.subject,
            f"{step.number}/{step.steps}",
            step.name,
            "in the cache" if step.cached else "to compute",
        )
        for step in plan.steps
    ]
    print_table(("for", "step", "pass", "result"), rows, empty="nothing is computed")
    print()
    variants = [
        (one.name, one.target, one.passes or "as trained", ", ".join(one.gates) or "none")
        for one in plan.variants
    ]
    print_table(("variant", "target", "passes", "gates"), variants, empty="")
    cached = sum(step.cached for step in plan.steps)
    count = f"{len(plan.steps)} step{'' if len(plan.steps) == 1 else 's'}"
    print(f"\n{count}, {cached} of them in the cache")
