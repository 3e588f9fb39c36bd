"""The user's own way in: a Keras model with branches, an old ``.h5`` with data, a ``.tflite`` without."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from fleet_cloud.factory.keras_file import write_keras
from tests.bench.compress.data import load_cifar
from tests.kit.commands import run_fleet
from tests.kit.world import World, wait_for_outcomes

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

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
dataset: {kind: npz, path: cifar.npz, scale: 1.0}
architecture: {kind: file, path: pretrainedResnet.h5}
training: {epochs: 0}
variants:
  - name: int8-sparse
    passes:
      - {pass: prune-weights, sparsity: 0.5, tune: {epochs: 1, learning_rate: 0.0001}}
      - {pass: int8}
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


def build_and_push(world: World, recipe: str, folder: Path, name: str) -> str:
    """Return what is shown of the model, as JSON, once a device runs it."""
    (folder / "recipe.yaml").write_text(recipe)
    words = ("push", str(folder / "recipe.yaml"), "--to", "id=pi-1")
    done = run_fleet(world.controller.url, *words, timeout_s=600)
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
    cifar = load_cifar(data, tmp_path / "all.npz").limit(2000)
    x = np.concatenate([cifar.train.x, cifar.test.x])
    np.savez(tmp_path / "cifar.npz", x=x, y=np.concatenate([cifar.train.y, cifar.test.y]))
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
