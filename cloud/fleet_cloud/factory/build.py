"""Carry a recipe out: train, compress, convert, measure, gate, package."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.data import Splits, load_splits, make_lab
from fleet_cloud.factory.evaluate import LiteModel, evaluate
from fleet_cloud.factory.events import BuildEvent, Stage, VariantBuilt, Warned
from fleet_cloud.factory.gates import Measured
from fleet_cloud.factory.keeping import Keeper
from fleet_cloud.factory.keras_file import write_keras
from fleet_cloud.factory.keys import describe_machinery, digest_splits, make_training_key
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.measuring import measure
from fleet_cloud.factory.package import Package, package
from fleet_cloud.factory.peers import Peer
from fleet_cloud.factory.pipeline import Made, Pipeline, Place
from fleet_cloud.factory.recipe import (
    Recipe,
    VariantRecipe,
    describe_recipe,
    merge_gates,
)
from fleet_cloud.factory.recipe.mistakes import FLOAT
from fleet_cloud.factory.teachers import add_teachers
from fleet_cloud.factory.train import train
from fleet_cloud.factory.variant import Candidate, Maker
from fleet_shared.manifest import Metrics
from fleet_shared.pixels import to_real

GOLDEN_CANDIDATES: Final = 64

Say = Callable[[BuildEvent], None]


@dataclass(frozen=True)
class Built:
    """``artifacts``: what is kept of a version besides what goes to devices, by name: ``keras/VARIANT``, its
    last Keras model."""

    packages: list[Package]
    lineage: dict[str, Any]
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


def build(
    recipe: Recipe,
    say: Say,
    peers: Sequence[Peer] = (),
    keeper: Keeper | None = None,
    fetched: Mapping[str, bytes] | None = None,
) -> Built:
    """Build all variants; ``peers`` are asked for golden vectors, ``keeper`` for what was computed before.

    ``fetched``: the Keras files of teachers that are versions, by their name in the recipe. Raises
    `BuildError` (``build.gate``) when a variant does not hold its gates.
    """
    splits = load_splits(recipe.dataset, recipe.training.seed)
    sizes = f"{len(splits.train.x)} train, {len(splits.validation.x)} validation, {len(splits.test.x)} test"
    say(Stage(name="data", detail=f"{recipe.dataset.kind}: {sizes}"))
    lab = make_lab(splits, recipe.dataset, recipe.training.seed, say)
    pipeline = Pipeline(lab, recipe.model, keeper)
    base = make_float(recipe, splits, pipeline)
    add_teachers(recipe, digest_splits(splits), pipeline, train, fetched or {})
    candidates = make_variants(recipe, lab, pipeline, base, say)
    check_gates(candidates)
    packages = [_package(candidate, splits, say, peers) for candidate in candidates]
    return Built(packages, _lineage(recipe, splits, base, candidates), _artifacts(base, candidates))


def make_float(recipe: Recipe, splits: Splits, pipeline: Pipeline) -> Made:
    """Return the network that all variants are made of, and make it known as a teacher."""
    key = make_training_key(digest_splits(splits), recipe.architecture, recipe.training)
    made = pipeline.begin(Place(FLOAT), key, partial(train, recipe.architecture, recipe.training))
    pipeline.add_teacher(FLOAT, key, lambda: made)
    return made


def make_variants(recipe: Recipe, lab: Lab, pipeline: Pipeline, base: Made, say: Say) -> list[Candidate]:
    """Return all variants, whether or not they hold their gates. The test split is not read."""
    reference = convert(base.network, lab)

    def finish(_variant: VariantRecipe, made: Made) -> tuple[bytes, Measured]:
        content = convert(made.network, lab)
        return content, measure(content, reference, lab)

    maker = Maker(pipeline, base, finish, say)
    return [maker.make(variant, merge_gates(recipe.gates, variant.gates)) for variant in recipe.variants]


def check_gates(candidates: Sequence[Candidate]) -> None:
    """Raise `BuildError` (``build.gate``) when a variant does not hold its gates, naming each of them."""
    failed = [candidate for candidate in candidates if candidate.failures]
    if not failed:
        return
    raise BuildError(
        "; ".join(
            f"variant {candidate.name!r} does not hold its gate: {failure.why}"
            for candidate in failed
            for failure in candidate.failures
        ),
        hint="train longer, compress less, or change the gate in the recipe; nothing was registered",
        code="build.gate",
    )


def _package(candidate: Candidate, splits: Splits, say: Say, peers: Sequence[Peer]) -> Package:
    name, content = candidate.name, candidate.content
    model = LiteModel(content)
    test = evaluate(model, to_real(splits.test.x, splits.preprocessing), np.asarray(splits.test.y))
    real = to_real(splits.validation.x[pick_in_turns(np.asarray(splits.validation.y))], splits.preprocessing)
    metrics = Metrics(
        accuracy=test.accuracy,
        validation_accuracy=candidate.measured.accuracy,
        latency_p50_us=test.latency_p50_us,
        test_samples=test.samples,
    )
    built = package(
        name,
        content,
        labels=splits.labels,
        preprocessing=splits.preprocessing,
        metrics=metrics,
        candidates=[[model.quantize(real[i : i + 1])] for i in range(len(real))],
        peers=peers,
    )
    say(
        VariantBuilt(
            name=name,
            size_bytes=len(content),
            accuracy=metrics.accuracy,
            validation_accuracy=metrics.validation_accuracy,
            latency_p50_us=metrics.latency_p50_us,
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


def _lineage(recipe: Recipe, splits: Splits, base: Made, candidates: Sequence[Candidate]) -> dict[str, Any]:
    machinery, training = describe_machinery(), base.steps[0]
    return {
        "recipe": describe_recipe(recipe),
        "data_sha256": splits.digest,
        "code_sha256": machinery["code"],
        "libraries": machinery["libraries"],
        "history": training.facts.get("history", []),
        "training": {name: value for name, value in training.describe().items() if name != "facts"},
        "variants": {candidate.name: candidate.describe() for candidate in candidates},
    }


def _artifacts(base: Made, candidates: Sequence[Candidate]) -> dict[str, bytes]:
    last = {candidate.name: candidate.made.network for candidate in candidates}
    return {"keras": write_keras(base.network.model)} | {
        f"keras/{name}": write_keras(network.model) for name, network in last.items()
    }
