"""The user's own way in: a Keras model with branches, an old ``.h5`` with data, a ``.tflite`` without."""

import os
import tarfile
from collections import Counter
from pathlib import Path, PurePosixPath

import keras
import pytest

from fleet_cloud.factory.keras_file import write_keras
from tests.bench.compress.data import ARCHIVE
from tests.kit.commands import run_fleet
from tests.kit.world import World, wait_for_outcomes

BUILD_S = 3000
"""A slow machine is no reason to fail."""
IMAGES = {"train": 120, "test": 40}
"""Of each class."""

pytestmark = [pytest.mark.system, pytest.mark.timeout(BUILD_S + 600)]

BRANCHES = """
model: branches
dataset: {kind: digits}
architecture: {kind: file, path: branches.keras}
training: {epochs: 12}
variants:
  - name: slim
    passes:
      - {pass: prune-filters, fraction: 0.3, tune: {epochs: 2, learning_rate: 0.001}}
      - {pass: int8, aware: true, tune: {epochs: 1}}
"""
RESNET = """
model: resnet8
dataset: {kind: images, path: cifar, scale: 1.0}
architecture: {kind: file, path: pretrainedResnet.h5}
training: {epochs: 0}
variants:
  - name: int8-sparse
    passes:
      - {pass: prune-weights, sparsity: 0.3, tune: {epochs: 2, batch_size: 16, learning_rate: 0.0001}}
      - {pass: int8}
gates: {accuracy_drop_max: 0.1}
"""
PERSON = """
model: person
dataset: {kind: none, input: [96, 96, 3]}
architecture: {kind: file, path: vww_96_float.tflite}
training: {epochs: 0}
variants:
  - {name: half, passes: [{pass: float16}]}
  - {name: dynamic, passes: [{pass: dynamic-range}]}
gates: {agreement_min: 0.9}
"""


@pytest.fixture
def data() -> Path:
    folder = Path(os.environ.get("FLEET_BENCH_DATA", ""))
    if not (folder / "mlperf-tiny").is_dir():
        pytest.skip("FLEET_BENCH_DATA names no folder that holds mlperf-tiny")
    return folder


def make_branches() -> keras.Model:
    """A residual addition, a concatenation and a depthwise convolution, with batch norm and softmax."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    stem = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(inputs)))
    inner = layers.Conv2D(16, 3, padding="same", activation="relu")(stem)
    sum_ = layers.Add()([stem, layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(inner))])
    wide = layers.DepthwiseConv2D(3, padding="same", activation="relu")(sum_)
    both = layers.Concatenate()([wide, layers.Conv2D(16, 1, activation="relu")(sum_)])
    pooled = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(both))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.Dense(32, "relu")(pooled)))


def extract_images(archive: Path, folder: Path) -> None:
    """Write the first images of each class, as SPLIT/CLASS/file."""
    seen = Counter[tuple[str, str]]()
    with tarfile.open(archive) as source:
        for member in source:
            if not member.isfile():
                continue
            split, label, name = PurePosixPath(member.name).parts[-3:]
            seen[split, label] += 1
            if seen[split, label] <= IMAGES[split] and (content := source.extractfile(member)):
                path = folder / split / label / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())


def build_and_push(world: World, recipe: str, folder: Path, name: str) -> str:
    """Return what is shown of the model, as JSON, once a device runs it."""
    (folder / "recipe.yaml").write_text(recipe)
    words = ("push", str(folder / "recipe.yaml"), "--to", "id=pi-1")
    done = run_fleet(world.controller.url, *words, timeout_s=BUILD_S)
    assert done.returncode == 0, done.stderr
    with world.client() as client:
        assert [one.name for one in wait_for_outcomes(client, "pi-1", 1)] == ["update.succeeded"]
    shown = run_fleet(world.controller.url, "model", "show", name, "--output", "json")
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@pytest.mark.long
def test_a_keras_model_with_residual_and_concatenated_parts(world: World, tmp_path: Path) -> None:
    (tmp_path / "branches.keras").write_bytes(write_keras(make_branches()))
    world.add_agent("pi-1")
    shown = build_and_push(world, BRANCHES, tmp_path, "branches")
    assert '"prune-filters"' in shown
    assert '"int8"' in shown


@pytest.mark.bench
def test_an_old_h5_with_data(world: World, tmp_path: Path, data: Path) -> None:
    extract_images(data / ARCHIVE, tmp_path / "cifar")
    (tmp_path / "pretrainedResnet.h5").symlink_to(data / "mlperf-tiny" / "pretrainedResnet.h5")
    world.add_agent("pi-1")
    shown = build_and_push(world, RESNET, tmp_path, "resnet8")
    assert '"prune-weights"' in shown


@pytest.mark.bench
def test_a_float_tflite_without_data(world: World, tmp_path: Path, data: Path) -> None:
    (tmp_path / "vww_96_float.tflite").symlink_to(data / "mlperf-tiny" / "vww_96_float.tflite")
    world.add_agent("pi-1")
    shown = build_and_push(world, PERSON, tmp_path, "person")
    assert '"half"' in shown
    assert '"dynamic"' in shown
