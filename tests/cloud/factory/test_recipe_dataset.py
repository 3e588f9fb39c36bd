"""What a recipe may say of the data set."""

from pathlib import Path

import pytest

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.recipe import Augment, load_recipe


def write(folder: Path, dataset: str) -> Path:
    for name in ("t.csv", "a.npz"):
        (folder / name).touch()
    path = folder / "recipe.yaml"
    path.write_text(f"model: digits\ndataset: {dataset}\n")
    return path


def test_each_kind_with_its_keys(tmp_path: Path) -> None:
    for text, wanted in (
        ("{kind: csv, path: t.csv, target: a, ignore: [b]}", {"target": "a", "ignore": ("b",)}),
        ("{kind: csv, path: t.csv, labels: none}", {"labels": "none"}),
        ("{kind: npz, path: a.npz, task: regression, scale: 2}", {"task": "regression", "scale": 2.0}),
        ("{kind: images, path: a.npz, skip_max: 3, colour: grey}", {"skip_max": 3, "colour": "grey"}),
        ("{kind: none, input: [96, 96, 3]}", {"input": (96, 96, 3)}),
        ("{kind: none, input: [3], task: regression}", {"task": "regression"}),
        ("{kind: images, path: a.npz, labels: none, task: regression}", {"labels": "none"}),
        ("{augment: {flip: horizontal, shift: 0.1}}", {"augment": Augment(flip="horizontal", shift=0.1)}),
    ):
        dataset = load_recipe(write(tmp_path, text)).dataset
        assert {key: getattr(dataset, key) for key in wanted} == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: digits, path: a.npz}", "path means nothing for the built-in digits"),
        ("{kind: csv, path: t.csv}", "target is needed"),
        ("{kind: none}", "input is needed"),
        ("{kind: none, input: [3], augment: {noise: 0.1}}", "augment means nothing for kind 'none'"),
        ("{kind: csv, path: t.csv, target: a, image_size: 8}", "image_size means nothing for kind 'csv'"),
        ("{kind: npz}", "path is needed"),
        ("{kind: images, path: a.npz, task: regression}", "has classes, not values"),
        ("{validation_fraction: 0.5, test_fraction: 0.5}", "leave nothing to train on"),
        ("{augment: {flip: sideways}}", "sideways"),
        ("{augment: {shift: 0.6}}", "<= 0.5"),
        ("{kind: npz, path: a.npz, std: [0]}", "> 0"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(write(tmp_path, text))
    assert caught.value.hint
