"""All mistakes of a recipe are found at once, each with its key and a hint."""

from pathlib import Path

import pytest

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.recipe import examine_recipe, load_recipe

BAD = """\
modl: x
training: {epocs: 3, learning_rate: 2e-3, seed: -1}
dataset: {kind: image}
gates: {accuracy_min: 2}
teachers: {big: {architecture: {kind: mlpp}}}
variants:
  - name: 3
    passes:
      - {pass: prune-weight}
      - {pass: int8, aware: 3, tune: {epochs: x}}
      - {sparsity: 0.5}
      - int8
  - {quantize: int8}
  - 7
"""

FOUND = [
    ("Object contains unknown field `modl`", "did you mean 'model'"),
    ("Object contains unknown field `epocs` - at `training`", "did you mean 'epochs'"),
    ("Expected `float`, got `str` - at `training.learning_rate`", "write 0.002"),
    ("Expected `int` >= 0 - at `training.seed`", "docs/recipes.md"),
    ("Invalid enum value 'image' - at `dataset.kind`", "did you mean 'images'"),
    ("Expected `float` <= 1.0 - at `gates.accuracy_min`", "docs/recipes.md"),
    ("Invalid enum value 'mlpp' - at `teachers.big.architecture.kind`", "did you mean 'mlp'"),
    ("Expected `str`, got `int` - at `variants[0].name`", "docs/recipes.md"),
    ("Invalid value 'prune-weight' - at `variants[0].passes[0].pass`", "did you mean 'prune-weights'"),
    ("Expected `bool`, got `int` - at `variants[0].passes[1].aware`", "docs/recipes.md"),
    ("Expected `int`, got `str` - at `variants[0].passes[1].tune.epochs`", "docs/recipes.md"),
    ("Object missing required field `pass` - at `variants[0].passes[2]`", "known are train, prune-weights"),
    ("Expected `object`, got `str` - at `variants[0].passes[3]`", "write {pass: int8}"),
    ("Object contains unknown field `quantize` - at `variants[1]`", "passes: [{pass: int8}]"),
    ("Object missing required field `name` - at `variants[1]`", "the keys are name, target"),
    ("Expected `object`, got `int` - at `variants[2]`", "the keys are name, target"),
    ("Object missing required field `model`", "the keys are model, dataset"),
]


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_every_mistake_of_form_is_found_at_once(tmp_path: Path) -> None:
    recipe, problems = examine_recipe(write(tmp_path, BAD))
    assert recipe is None
    assert [str(problem) for problem in problems] == [message for message, _ in FOUND]
    for problem, (_, hint) in zip(problems, FOUND, strict=True):
        assert hint in problem.hint


def test_loading_names_the_first_and_where_to_see_the_others(tmp_path: Path) -> None:
    path = write(tmp_path, BAD)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert f"`modl` (and {len(FOUND) - 1} more: fleet recipe check {path})" in caught.value.message
    assert caught.value.hint == "did you mean 'model'?"


MISTAKES = [
    (
        "variants: [{name: v, passes: [{pass: int8}, {pass: prune-weights}]}]",
        "variants[0].passes[1]",
        "chosen last",
    ),
    (
        "variants: [{name: v, passes: [{pass: int8}, {pass: float16}]}]",
        "variants[0].passes[1]",
        "one number format",
    ),
    (
        "variants: [{name: v, passes: [{pass: train, tune: {distil: {teacher: flaot}}}]}]",
        "variants[0].passes[0].tune.distil.teacher",
        "no teacher 'flaot'",
    ),
    ("variants: [{name: v, passes: [{pass: int8}], back_off: 2}]", "variants[0].back_off", "can be weakened"),
    ("teachers: {big: {}}", "teachers.big", "says nothing of what it is"),
    ("teachers: {float: {architecture: {}}}", "teachers.float", "this recipe itself"),
    (
        "teachers: {big: {architecture: {}, version: 'm:1.0.0'}}",
        "teachers.big",
        "as architecture and as version",
    ),
    ("teachers: {big: {version: 'm:1'}}", "teachers.big.version", "'1'"),
    ("teachers: {big: {version: m}}", "teachers.big.version", ""),
    ("teachers: {big: {architecture: {}, variant: int8}}", "teachers.big.variant", "one of a version"),
    ("teachers: {Big: {architecture: {}}}", "teachers.Big", "'Big'"),
    ("teachers: {big: {architecture: {kind: resnet, depth: 9}}}", "teachers.big.architecture", "depth of 9"),
    ("teachers: {big: {file: no.keras}}", "", "no.keras does not exist"),
]


@pytest.mark.parametrize(("text", "key", "message"), MISTAKES)
def test_a_mistake_of_sense_is_named_by_its_key(tmp_path: Path, text: str, key: str, message: str) -> None:
    _, problems = examine_recipe(write(tmp_path, f"model: m\n{text}\n"))
    (problem,) = problems
    assert problem.key == key
    assert message in problem.message
    assert problem.hint


def test_several_mistakes_of_sense_are_found_together(tmp_path: Path) -> None:
    text = "{model: M, variants: [{name: a}, {name: a}], dataset: {kind: npz, path: no.npz}}"
    _, problems = examine_recipe(write(tmp_path, text))
    assert [problem.key for problem in problems] == ["model", "variants", ""]
    assert problems[-1].code == "recipe.file.missing"
