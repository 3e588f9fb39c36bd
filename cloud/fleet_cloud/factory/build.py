"""Carry a recipe out: train, convert, evaluate, gate, package."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.data import Splits, load_splits
from fleet_cloud.factory.evaluate import Evaluation, LiteModel, evaluate
from fleet_cloud.factory.events import BuildEvent, Epoch, Stage, VariantBuilt, Warned
from fleet_cloud.factory.gates import check_gates
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import Network, Precision
from fleet_cloud.factory.package import Package, package
from fleet_cloud.factory.peers import Peer
from fleet_cloud.factory.recipe import Recipe, VariantRecipe, describe_recipe
from fleet_cloud.factory.train import train
from fleet_shared.manifest import Metrics
from fleet_shared.pixels import to_real

GOLDEN_CANDIDATES: Final = 64


@dataclass(frozen=True)
class Built:
    packages: list[Package]
    lineage: dict[str, Any]


def build(recipe: Recipe, say: Callable[[BuildEvent], None], peers: Sequence[Peer] = ()) -> Built:
    """Build all variants; ``peers`` are asked for golden vectors. Raises `BuildError` (``build.gate``)
    when one does not hold its gate."""
    splits = load_splits(recipe.dataset, recipe.training.seed)
    sizes = f"{len(splits.train.y)} train, {len(splits.validation.y)} validation, {len(splits.test.y)} test"
    say(Stage(name="data", detail=f"{recipe.dataset.kind}: {sizes}"))
    say(Stage(name="training", detail=f"{recipe.architecture.kind}, at most {recipe.training.epochs} epochs"))
    history: list[dict[str, float]] = []

    def on_epoch(epoch: int, epochs: int, loss: float, accuracy: float, left_s: float) -> None:
        history.append({"loss": loss, "validation_accuracy": accuracy})
        say(Epoch(epoch=epoch, epochs=epochs, loss=loss, accuracy=accuracy, seconds_left=left_s))

    model = train(splits, recipe.architecture, recipe.training, on_epoch)
    say(Stage(name="variants", detail="convert, evaluate, golden vectors"))
    lab = _lab(splits, recipe.training.seed, say)
    converted = {variant.name: _convert(model, variant, lab) for variant in recipe.variants}
    scores = {name: _evaluate(content, splits) for name, content in converted.items()}
    check_gates(recipe.gates, {name: score.accuracy for name, score in scores.items()})
    packages = [
        _package(name, content, scores[name], splits, say, peers) for name, content in converted.items()
    ]
    return Built(packages, _lineage(recipe, splits, history))


def _lab(splits: Splits, seed: int, say: Callable[[BuildEvent], None]) -> Lab:
    train, validation = (Part(split.x, split.y) for split in (splits.train, splits.validation))
    return Lab(train, validation, splits.preprocessing, splits.labels, seed, say)


def _convert(model: Any, variant: VariantRecipe, lab: Lab) -> bytes:
    precision = Precision("int8" if variant.quantize == "int8" else "fp32")
    return convert(Network(model, precision=precision), lab)


def _evaluate(content: bytes, splits: Splits) -> Evaluation:
    """On the validation split: this is what decisions may look at."""
    real = to_real(splits.validation.x, splits.preprocessing)
    return evaluate(LiteModel(content), real, splits.validation.y)


def _package(
    name: str,
    content: bytes,
    score: Evaluation,
    splits: Splits,
    say: Callable[[BuildEvent], None],
    peers: Sequence[Peer],
) -> Package:
    model = LiteModel(content)
    test = evaluate(model, to_real(splits.test.x, splits.preprocessing), splits.test.y)
    real = to_real(splits.validation.x[pick_in_turns(splits.validation.y)], splits.preprocessing)
    built = package(
        name,
        content,
        labels=splits.labels,
        preprocessing=splits.preprocessing,
        metrics=Metrics(
            accuracy=test.accuracy,
            validation_accuracy=score.accuracy,
            latency_p50_us=test.latency_p50_us,
            test_samples=test.samples,
        ),
        candidates=[[model.quantize(real[i : i + 1])] for i in range(len(real))],
        peers=peers,
    )
    say(
        VariantBuilt(
            name=name,
            size_bytes=len(content),
            accuracy=test.accuracy,
            validation_accuracy=score.accuracy,
            latency_p50_us=test.latency_p50_us,
        )
    )
    for warning in built.warnings:
        say(Warned(message=warning))
    return built


def pick_in_turns(y: NDArray[np.int64], count: int = GOLDEN_CANDIDATES) -> list[int]:
    """Return the indices of the first ``count`` samples, classes taking turns."""
    turn = np.zeros(len(y), dtype=np.int64)
    for number in np.unique(y):
        turn[y == number] = np.arange(np.sum(y == number))
    return [int(i) for i in np.argsort(turn, kind="stable")[:count]]


def _lineage(recipe: Recipe, splits: Splits, history: list[dict[str, float]]) -> dict[str, Any]:
    libraries = ("tensorflow", "tensorflow-cpu", "keras", "ai-edge-litert", "numpy", "fleet-cloud")
    return {
        "recipe": describe_recipe(recipe),
        "data_sha256": splits.digest,
        "libraries": {name: found for name in libraries if (found := _version(name))},
        "history": history,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except ModuleNotFoundError:
        return None
