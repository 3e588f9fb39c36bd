"""The schema for editors, and the recipe to begin with."""

from pathlib import Path
from typing import Any

import msgspec

from fleet_cloud.factory.recipe import describe_schema, load_recipe, write_example
from fleet_cloud.factory.recipe.passes import PassSettings, name_pass


def test_the_example_is_a_whole_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(write_example("recipe.schema.json"))
    recipe = load_recipe(path)
    assert [variant.name for variant in recipe.variants] == ["fp32", "int8", "int8-pruned"]
    assert path.read_text().startswith("# yaml-language-server: $schema=recipe.schema.json\n")


def test_each_key_that_the_example_shows_as_a_comment_is_one(tmp_path: Path) -> None:
    """What is commented out is right, too."""
    lines = write_example("s").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("# teachers:"))
    end = next(number for number in range(begin, len(lines)) if not lines[number].startswith("#"))
    lines[begin:end] = [line.removeprefix("# ") for line in lines[begin:end]]
    text = "\n".join(line.replace("  # ", "  ", 1) if line.startswith("  # ") else line for line in lines)
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    recipe = load_recipe(path)
    assert set(recipe.teachers) == {"big", "older"}
    gates = msgspec.structs.asdict(recipe.gates)
    assert all(value is not None for value in gates.values())


def test_the_schema_knows_every_key_and_every_pass() -> None:
    schema: dict[str, Any] = describe_schema()
    kinds = schema["$defs"]
    assert set(kinds["Recipe"]["properties"]) == {
        "model", "dataset", "architecture", "training", "teachers", "variants", "gates",
        "search",
    }  # fmt: skip
    assert kinds["Recipe"]["additionalProperties"] is False
    passes = kinds["VariantRecipe"]["properties"]["passes"]["items"]
    names = {name_pass(kind) for kind in PassSettings.__args__}
    assert set(passes["discriminator"]["mapping"]) == names
    assert kinds["PruneWeights"]["properties"]["sparsity"]["exclusiveMaximum"] == 1.0
