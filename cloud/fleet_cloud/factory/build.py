"""Carry a recipe out: train, compress, convert, measure, gate, release."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.data import Splits, load_splits, make_lab
from fleet_cloud.factory.events import BuildEvent, Stage
from fleet_cloud.factory.gates import Measured
from fleet_cloud.factory.inspect import inspect_file
from fleet_cloud.factory.keeping import Keeper
from fleet_cloud.factory.keras_file import write_keras
from fleet_cloud.factory.keys import describe_machinery, digest_splits, make_training_key
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.measuring import Measurer, make_questions
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.package import Package
from fleet_cloud.factory.peers import Peer
from fleet_cloud.factory.pipeline import Made, Pipeline, Place
from fleet_cloud.factory.recipe import (
    Recipe,
    VariantRecipe,
    describe_recipe,
    merge_gates,
)
from fleet_cloud.factory.recipe.mistakes import FLOAT
from fleet_cloud.factory.recipe.targets import RUNTIMES, allows_dynamic_per_channel
from fleet_cloud.factory.releasing import judge_variants, release
from fleet_cloud.factory.report.making import make_artifacts, make_report
from fleet_cloud.factory.teachers import Train, add_teachers
from fleet_cloud.factory.train import train
from fleet_cloud.factory.variant import Candidate, Maker

Say = Callable[[BuildEvent], None]


@dataclass(frozen=True)
class Built:
    """``artifacts``: what is kept of a version besides what goes to devices, by name: ``keras/VARIANT``, its
    last Keras model, ``keras``, the float network, and the report."""

    packages: list[Package]
    lineage: dict[str, Any]
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


def build(
    recipe: Recipe,
    say: Say,
    peers: Sequence[Peer] = (),
    keeper: Keeper | None = None,
    fetched: Mapping[str, bytes] | None = None,
    *,
    allow_code: bool = False,
) -> Built:
    """Build all variants; ``peers`` are asked for golden vectors, ``keeper`` for what was computed before.

    ``fetched``: the Keras files of teachers that are versions, by their name in the recipe.
    ``allow_code``: run Python that an architecture of kind ``python`` names. Raises `BuildError`
    (``build.gate``) when a variant does not hold its gates.
    """
    splits = load_splits(recipe.dataset, recipe.training.seed)
    say(Stage(name="data", detail=f"{recipe.dataset.kind}: {splits.describe()}"))
    lab, samples = make_lab(splits, recipe.training.seed, say), digest_splits(splits)
    pipeline = Pipeline(lab, recipe.model, keeper)
    base = make_float(recipe, samples, pipeline, partial(train, allow_code=allow_code))
    add_teachers(recipe, samples, pipeline, partial(train, allow_code=allow_code), fetched or {})
    reference = convert(base.network, lab)
    candidates = make_variants(recipe, lab, pipeline, base, reference)
    check_gates(candidates)
    say(Stage(name="measuring", detail="on the test split; golden vectors"))
    evaluations = judge_variants(candidates, reference, splits)
    packages = [release(one, evaluations[one.name], splits, peers, say) for one in candidates]
    lineage = _describe(recipe, splits, base, candidates)
    report = make_report(recipe, splits, base, candidates, evaluations, reference, lineage)
    return Built(packages, lineage, {**_collect(base, candidates), **make_artifacts(report)})


def make_float(recipe: Recipe, samples: str, pipeline: Pipeline, train_one: Train) -> Made:
    """Return the network that all variants are made of, and make it known as a teacher."""
    key = make_training_key(samples, recipe.architecture, recipe.training)
    made = pipeline.begin(Place(FLOAT), key, partial(train_one, recipe.architecture, recipe.training))
    pipeline.add_teacher(FLOAT, key, lambda: made)
    return made


def make_variants(
    recipe: Recipe, lab: Lab, pipeline: Pipeline, base: Made, reference: bytes
) -> list[Candidate]:
    """Return all variants, whether or not they hold their gates. ``reference``: the float file."""
    measurer = Measurer(reference, make_questions(lab))

    def finish(variant: VariantRecipe, made: Made) -> tuple[bytes, Measured]:
        content = make_file(variant, made.network, lab)
        return content, measurer.measure(content)

    maker = Maker(pipeline, base, finish, lab.say)
    return [maker.make(variant, merge_gates(recipe.gates, variant.gates)) for variant in recipe.variants]


def make_file(variant: VariantRecipe, network: Network, lab: Lab) -> bytes:
    """Return the file of a variant; raise `BuildError` (``build.target``) when its target cannot run it."""
    precision = network.precision
    if precision.kind == "dynamic-range" and not allows_dynamic_per_channel(variant.target):
        precision = replace(precision, per_channel_dense=False)
    content = convert(replace(network, precision=precision), lab)
    if RUNTIMES[variant.target] not in inspect_file(content).runtimes:
        raise BuildError(
            f"variant {variant.name!r} is for {variant.target}, which cannot run all of its operators",
            hint="choose another target or other passes; docs/runtimes.md has the table",
            code="build.target",
        )
    return content


def check_gates(candidates: Sequence[Candidate]) -> None:
    """Raise `BuildError` (``build.gate``) when a variant does not hold its gates, naming each of them."""
    failed = [candidate for candidate in candidates if candidate.failures]
    if failed:
        raise BuildError(
            "; ".join(candidate.explain() for candidate in failed),
            hint="train longer, compress less, or change the gate in the recipe; nothing was registered",
            code="build.gate",
        )


def _describe(recipe: Recipe, splits: Splits, base: Made, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return the lineage: what the version was made of, by what, and how it went."""
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


def _collect(base: Made, candidates: Sequence[Candidate]) -> dict[str, bytes]:
    """Return the artifacts by name."""
    last = {f"keras/{candidate.name}": candidate.model for candidate in candidates}
    return {name: write_keras(model) for name, model in {"keras": base.network.model, **last}.items()}
