"""Recipes: what is accepted, and how a mistake is named."""

from pathlib import Path

import pytest

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.recipe import describe_recipe, find_search, limit_search, load_recipe
from fleet_cloud.factory.recipe.passes import Int8


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_the_shortest_recipe_builds_fp32_and_int8_of_digits(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "model: digits"))
    assert recipe.dataset.kind == "digits"
    assert [(variant.name, variant.passes) for variant in recipe.variants] == [
        ("fp32", ()),
        ("int8", (Int8(),)),
    ]


def test_the_example_is_a_recipe_with_gates() -> None:
    recipe = load_recipe(Path("docs/examples/digits.yaml"))
    assert recipe.model == "digits"
    assert recipe.gates.accuracy_drop_max == 0.01


def test_the_example_of_a_search_says_what_may_be_tried_and_for_how_long() -> None:
    recipe = load_recipe(Path("docs/examples/search.yaml"))
    assert limit_search(recipe, None) == recipe
    assert [one["pass"] for one in find_search(recipe).passes] == ["prune-filters", "prune-weights", "int8"]
    assert find_search(limit_search(recipe, 0.5)).minutes == 0.5


def test_what_is_searched_is_no_part_of_the_lineage() -> None:
    assert "search" not in describe_recipe(load_recipe(Path("docs/examples/search.yaml")))


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "data.npz").touch()
    recipe = load_recipe(write(tmp_path, "{model: m, dataset: {kind: npz, path: data.npz}}"))
    assert recipe.dataset.path == str(tmp_path / "data.npz")
    assert describe_recipe(recipe)["dataset"]["path"] == str(tmp_path / "data.npz")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{model: m, training: {epocs: 3}}", "`epocs` - at `training`", "did you mean 'epochs'"),
        ("{model: m, dataset: {kind: image}}", "'image' - at `dataset.kind`", "did you mean 'images'"),
        ("{model: m, zebra: 1}", "`zebra`", "known are model"),
        (
            "{model: m, training: {epochs: many}}",
            "Expected `int`, got `str` - at `training.epochs`",
            "keys",
        ),
        ("{model: m, training: {epochs: 0}}", "with no epochs", "trained already"),
        ("{model: m, training: {learning_rate: 2e-3}}", "`training.learning_rate`", "write 0.002"),
        ("{model: m, variants: []}", "`variants`", "keys"),
        ("{model: m, variants: [{name: a}, {name: a}]}", "2 variants called 'a'", "name of its own"),
        ("{model: m, variants: [{name: A b}]}", "variant name 'A b'", "use 1 to 64"),
        ("{model: My Model}", "model name 'My Model'", "use 1 to 64"),
        ("{dataset: {}}", "`model`", "keys"),
        ("", "Expected `object`, got `null`", "keys"),
        ("[1, 2]", "Expected `object`, got `array`", "keys"),
        ("model: [unclosed", "cannot be read: line 1, column 17: expected", "YAML"),
        ("{model: m, variants: [{name: a, pases: []}]}", "`pases`", "did you mean 'passes'"),
        ("{model: m, variants: [{name: a, quantize: int8}]}", "`quantize`", "passes: [{pass: int8}]"),
        ("model: m\ngates: {accuracy_min: 0.9}\ngates: {}", "line 3, column 1: the key 'gates'", "keep one"),
        ("{model: m, training: {epochs: 3, epochs: 4}}", "the key 'epochs' stands twice", "keep one"),
        ('{model: m, dataset: {kind: npz, path: "a\\0b"}}', "'a\\x00b' is no path", "a file or folder"),
        (f"{{model: m, dataset: {{kind: npz, path: {'n' * 5000}}}}}", "is no path", "a file or folder"),
        ("model: " + "[" * 3000, "nested too deeply", "two levels"),
        ("model: a\0b", "cannot be read: unacceptable character", "YAML"),
        ("model: 2024-13-45", "cannot be read: month must be", "YAML"),
        ("{model: m, search: {passes: []}}", "`search.passes`", "keys"),
        (
            "{model: m, search: {passes: [{pass: cluster, entries: {from: 4, to: 999}}]}}",
            "`search.passes[0].entries`",
            "",
        ),
        (
            "{model: m, search: {passes: [{pass: train, tune: {distil: {teacher: {any: [float, flaot]}}}}]}}",
            "no teacher 'flaot' - at `search.passes[0].tune.distil.teacher`",
            "did you mean 'float'",
        ),
        (
            "{model: m, dataset: {kind: npz, path: ., task: regression}, search: {passes: [{pass: int8}]}}",
            "nobody knows it - at `search`",
            "classes and labels",
        ),
        ("{model: m, dataset: {kind: npz}}", "path is needed for kind 'npz' - at `dataset`", "path: FILE"),
        ("{model: m, dataset: {kind: npz, path: no.npz}}", "no.npz does not exist", "relative"),
    ],
)
def test_a_mistake_is_named_with_file_key_and_hint(
    tmp_path: Path, text: str, message: str, hint: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint


def test_keys_that_are_merged_in_may_be_overridden(tmp_path: Path) -> None:
    text = "model: m\ntraining: &t {epochs: 3}\ngates: {}\n"
    assert (
        load_recipe(write(tmp_path, text + "architecture: {<<: {units: 3}, units: 4}")).architecture.units
        == 4
    )


@pytest.mark.parametrize("value", [".nan", "-0.1", "1.1", ".inf", "high"])
@pytest.mark.parametrize("gate", ["accuracy_min", "accuracy_drop_max"])
def test_a_gate_that_cannot_be_judged_is_refused(tmp_path: Path, gate: str, value: str) -> None:
    with pytest.raises(RecipeError, match=gate):
        load_recipe(write(tmp_path, f"{{model: m, gates: {{{gate}: {value}}}}}"))


TABLE = "{kind: csv, path: t.csv, target: y, task: regression}"


@pytest.mark.parametrize(
    ("dataset", "gate", "why"),
    [
        (TABLE, "accuracy_min: 0.9", "the task is regression"),
        (TABLE, "agreement_min: 0.9", "the task is regression"),
        ("{kind: images, path: p, labels: none}", "accuracy_drop_max: 0.1", "there are no labels"),
        ("{kind: none, input: [4]}", "accuracy_min: 0.9", "there are no labels"),
    ],
)
def test_a_gate_on_what_nobody_will_know_is_refused(
    tmp_path: Path, dataset: str, gate: str, why: str
) -> None:
    general = f"model: m\ndataset: {dataset}\ngates: {{{gate}}}\n"
    own = f"model: m\ndataset: {dataset}\nvariants: [{{name: a, gates: {{{gate}}}}}]\n"
    for text, key in ((general, "gates."), (own, "variants[0].gates.")):
        with pytest.raises(RecipeError) as caught:
            load_recipe(write(tmp_path, text))
        assert why in caught.value.message
        assert f"`{key}{gate.partition(':')[0]}`" in caught.value.message


def test_training_that_a_pass_would_not_do_is_refused(tmp_path: Path) -> None:
    passes = "[{pass: int8, tune: {epochs: 3, distil: {teacher: float}}}]"
    with pytest.raises(
        RecipeError, match=r"int8 trains only with aware: true - at `variants\[0\].passes\[0\].tune`"
    ):
        load_recipe(write(tmp_path, f"model: m\nvariants: [{{name: a, passes: {passes}}}]\n"))


def test_training_that_no_trial_would_do_is_refused_and_no_training_may_be_asked_for(tmp_path: Path) -> None:
    vain = "{pass: int8, tune: {epochs: 3, distil: {teacher: nobody}}}"
    with pytest.raises(
        RecipeError, match=r"int8 trains only with aware: true - at `search.passes\[0\].tune`"
    ):
        load_recipe(write(tmp_path, f"model: m\nsearch: {{passes: [{vain}]}}\n"))
    load_recipe(write(tmp_path, "model: m\nsearch: {passes: [{pass: int8, tune: {epochs: 0}}]}\n"))
    load_recipe(
        write(tmp_path, "model: m\nvariants: [{name: a, passes: [{pass: int8, tune: {epochs: 0}}]}]\n")
    )


def test_a_missing_recipe_and_one_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "none.yaml")
    assert caught.value.code == "recipe.missing"
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)
