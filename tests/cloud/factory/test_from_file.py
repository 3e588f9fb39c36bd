"""Variants of a float file without known layers: other number formats, judged beside the file itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.build import Built, build
from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.from_file import check_file_fits
from fleet_cloud.factory.lab import Part
from fleet_cloud.factory.recipe import examine_recipe, load_recipe
from fleet_shared.manifest import Role
from tests.cloud.factory.small import make_lab, make_network
from tests.kit.tiny_model import Graph, make_image_classifier, make_sum_and_product

RECIPE = """\
model: quarters
dataset: {kind: none, input: [8, 8, 1]}
architecture: {kind: file, path: quarters.tflite}
variants:
  - name: fp32
  - name: fp16
    passes: [{pass: float16}]
  - name: dynamic
    target: tflite-2.14
    passes: [{pass: dynamic-range}]
gates: {agreement_min: 0.5}
"""


def make_whole_batch() -> bytes:
    """A model of four samples at a time."""
    graph = Graph()
    x, y = graph.tensor("x", (4, 8, 8, 1)), graph.tensor("y", (4, 4))
    graph.reshape(x, y, (4, 4))
    return graph.finish([x], [y])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "quarters.tflite").write_bytes(convert(make_network(), make_lab(16)))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def built(folder: Path) -> Built:
    return build(load_recipe(folder / "recipe.yaml"), lambda _event: None)


def test_each_variant_is_the_file_in_another_format(folder: Path, built: Built) -> None:
    files = {package.name: package.blobs[Role.MODEL] for package in built.packages}
    assert files["fp32"] == (folder / "quarters.tflite").read_bytes()
    assert len(set(files.values())) == 3
    assert len(files["dynamic"]) < len(files["fp32"])
    assert "tflite_runtime" in built.packages[2].contract.runtimes


def test_accuracy_is_unknown_and_no_keras_model_is_kept(built: Built) -> None:
    assert [package.contract.metrics.accuracy for package in built.packages] == [None, None, None]
    assert not [name for name in built.artifacts if name.startswith("keras")]
    assert [step["pass"] for step in built.lineage["variants"]["fp16"]["passes"]] == ["float16"]
    assert "training" not in built.lineage


def test_with_samples_it_becomes_int8_too(folder: Path) -> None:
    lab = make_lab(48)
    np.savez(folder / "data.npz", x=lab.train.x, y=np.asarray(lab.train.y))
    (folder / "int8.yaml").write_text(
        "model: quarters\ndataset: {kind: npz, path: data.npz}\n"
        "architecture: {kind: file, path: quarters.tflite}\n"
        "variants: [{name: int8, passes: [{pass: int8}]}]\n"
    )
    (package,) = build(load_recipe(folder / "int8.yaml"), lambda _event: None).packages
    assert package.contract.inputs[0].dtype == "int8"
    assert package.contract.metrics.accuracy is not None


@pytest.mark.parametrize(
    "settings",
    ["{pass: prune-weights}", "{pass: int8, aware: true}", "{pass: int8, recover: 1}", "{pass: train}"],
)
def test_what_needs_layers_is_refused_before_anything_is_computed(folder: Path, settings: str) -> None:
    (folder / "bad.yaml").write_text(
        "model: quarters\ndataset: {kind: none, input: [8, 8, 1]}\n"
        "architecture: {kind: file, path: quarters.tflite}\n"
        f"variants: [{{name: v, passes: [{settings}]}}]\n"
    )
    _, (problem,) = examine_recipe(folder / "bad.yaml")
    assert problem.key == "variants[0].passes[0]"
    assert "works on layers" in problem.message


@pytest.mark.parametrize(
    ("content", "said", "hint"),
    [
        (
            make_image_classifier(1, 8, 8),
            "takes samples of (1, 8, 8), and the data set has (8, 8, 1)",
            "NCHW",
        ),
        (
            make_image_classifier(6, 8, 1),
            "takes samples of (6, 8, 1), and the data set has (8, 8, 1)",
            "image_size",
        ),
        (make_image_classifier(8, 8, 1, classes=3), "gives 3 values, and the data set has 4 classes", "same"),
        (make_sum_and_product((1, 8)), "has 2 inputs and 2 outputs", "one of each"),
        (make_whole_batch(), "takes 4 samples at once", "batch of one"),
    ],
)
def test_a_file_that_does_not_fit_the_samples_is_refused_before_anything_is_computed(
    tmp_path: Path, content: bytes, said: str, hint: str
) -> None:
    path, steps = tmp_path / "m.tflite", list[str]()
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        check_file_fits(path, content, make_lab(16, say=lambda event: steps.append(repr(event))))
    assert (caught.value.code, steps) == ("recipe.architecture", [])
    assert said in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_file_that_fits_is_taken(tmp_path: Path) -> None:
    check_file_fits(tmp_path / "m.tflite", make_image_classifier(8, 8, 1), make_lab(16))
    unlabelled = replace(make_lab(16), validation=Part(make_lab(16).validation.x, None))
    check_file_fits(tmp_path / "m.tflite", make_image_classifier(8, 8, 1, classes=9), unlabelled)


def test_a_build_looks_at_it(folder: Path) -> None:
    (folder / "turned.yaml").write_text(RECIPE.replace("[8, 8, 1]", "[1, 8, 8]"))
    with pytest.raises(RecipeError, match="the data set has"):
        build(load_recipe(folder / "turned.yaml"), lambda _event: None)
