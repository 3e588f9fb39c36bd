"""What a recipe may say of the architecture."""

from pathlib import Path

import pytest

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.recipe import Architecture, load_recipe
from fleet_cloud.factory.recipe.architecture import DEFAULTS


def write(folder: Path, architecture: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(f"model: digits\narchitecture: {architecture}\n")
    return path


def test_what_is_not_given_is_the_default_of_its_kind(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "{kind: ds-cnn, depth: 2}"))
    assert [recipe.architecture.get(key) for key in DEFAULTS["ds-cnn"]] == [64, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: mlp, depth: 2}", "depth means nothing for kind 'mlp'"),
        ("{kind: resnet, depth: 9}", "no depth of 9"),
        ("{kind: resnet, depth: 2}", "no depth of 2"),
        ("{kind: file}", "path is needed"),
        ("{kind: python, path: recipe.yaml}", "function is needed"),
        ("{kind: resnet, depth: 62}", "<= 56"),
        ("{kind: file, path: absent.keras}", "absent.keras does not exist"),
        ("{kind: mobilenet-v2, weights: absent.h5}", "absent.h5 does not exist"),
    ],
)
def test_an_architecture_that_means_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(write(tmp_path, text))
    assert caught.value.hint


@pytest.mark.parametrize("depth", [8, 14, 20, 56])
def test_depths_of_resnets(tmp_path: Path, depth: int) -> None:
    recipe = load_recipe(write(tmp_path, f"{{kind: resnet, depth: {depth}}}"))
    assert recipe.architecture == Architecture(kind="resnet", depth=depth)


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "model.keras").touch()
    recipe = load_recipe(write(tmp_path, "{kind: file, path: model.keras}"))
    assert recipe.architecture.path == str(tmp_path / "model.keras")
