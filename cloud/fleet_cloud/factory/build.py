"""Carry a recipe out: train, convert, evaluate, gate, package."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fleet_cloud.entrypoints.workers.build_events import BuildEvent, Epoch, Stage, VariantBuilt
from fleet_cloud.errors import BuildError
from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.data import Splits, load_splits, to_real
from fleet_cloud.factory.evaluate import Evaluation, LiteModel, evaluate
from fleet_cloud.factory.package import Package, package
from fleet_cloud.factory.recipe import Gates, Recipe, VariantRecipe, describe_recipe
from fleet_cloud.factory.train import train, with_softmax
from fleet_shared.manifest import Metrics

GOLDEN_CANDIDATES = 64


@dataclass(frozen=True)
class Built:
    packages: list[Package]
    lineage: dict[str, Any]


def build(recipe: Recipe, say: Callable[[BuildEvent], None]) -> Built:
    """Build all variants; raise `BuildError` (``build.gate``) when one does not hold its gate."""
    splits = load_splits(recipe.dataset, recipe.training.seed)
    sizes = f"{len(splits.train.y)} train, {len(splits.validation.y)} validation, {len(splits.test.y)} test"
    say(Stage(name="data", detail=f"{recipe.dataset.kind}: {sizes}"))
    say(Stage(name="training", detail=f"{recipe.architecture.kind}, at most {recipe.training.epochs} epochs"))
    history: list[dict[str, float]] = []

    def on_epoch(epoch: int, epochs: int, loss: float, accuracy: float, left_s: float) -> None:
        history.append({"loss": loss, "validation_accuracy": accuracy})
        say(Epoch(epoch=epoch, epochs=epochs, loss=loss, accuracy=accuracy, seconds_left=left_s))

    model = with_softmax(train(splits, recipe.architecture, recipe.training, on_epoch))
    say(Stage(name="variants", detail="convert, evaluate, golden vectors"))
    converted = {variant.name: _convert(model, variant, splits) for variant in recipe.variants}
    scores = {name: _evaluate(content, splits) for name, content in converted.items()}
    _check_gates(recipe, scores)
    packages = [_package(name, content, scores[name], splits, say) for name, content in converted.items()]
    return Built(packages, _lineage(recipe, splits, history))


def _convert(model: Any, variant: VariantRecipe, splits: Splits) -> bytes:
    return convert(model, variant.quantize, to_real(splits.train.x, splits.preprocessing))


def _evaluate(content: bytes, splits: Splits) -> Evaluation:
    """On the validation split: this is what decisions may look at."""
    real = to_real(splits.validation.x, splits.preprocessing)
    return evaluate(LiteModel(content), real, splits.validation.y)


def _check_gates(recipe: Recipe, scores: dict[str, Evaluation]) -> None:
    best = max(score.accuracy for score in scores.values())
    for name, score in scores.items():
        if (why := find_gate_failure(recipe.gates, score.accuracy, best)) is not None:
            raise BuildError(
                f"variant {name!r} does not hold its gate: {why}",
                hint="train longer, or change the gate in the recipe; nothing was registered",
                code="build.gate",
            )


def find_gate_failure(gates: Gates, accuracy: float, best: float) -> str | None:
    """Return why a variant fails, or none. At the boundary a gate holds; NaN fails."""
    if gates.accuracy_min is not None and not accuracy >= gates.accuracy_min:
        return f"validation accuracy {accuracy:.4f} is below accuracy_min {gates.accuracy_min}"
    if gates.accuracy_drop_max is not None and not best - accuracy <= gates.accuracy_drop_max:
        return f"validation accuracy drops by {best - accuracy:.4f}, at most {gates.accuracy_drop_max}"
    return None


def _package(
    name: str, content: bytes, score: Evaluation, splits: Splits, say: Callable[[BuildEvent], None]
) -> Package:
    model = LiteModel(content)
    test = evaluate(model, to_real(splits.test.x, splits.preprocessing), splits.test.y)
    real = to_real(splits.validation.x[:GOLDEN_CANDIDATES], splits.preprocessing)
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
    return built


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
