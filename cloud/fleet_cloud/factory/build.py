"""Carry a recipe out: train, compress, convert, measure, gate, release."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.candidates import Candidates, Means, make_candidates
from fleet_cloud.factory.data import Splits, load_splits, make_lab
from fleet_cloud.factory.events import BuildEvent, Stage
from fleet_cloud.factory.keeping import Keeper
from fleet_cloud.factory.keras_file import write_keras
from fleet_cloud.factory.keys import describe_machinery, digest_splits
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.package import Package
from fleet_cloud.factory.peers import Peer
from fleet_cloud.factory.quantization.sensitivity import explain_int8
from fleet_cloud.factory.recipe import Recipe, describe_recipe
from fleet_cloud.factory.releasing import judge_variants, release
from fleet_cloud.factory.repeatable import fix_threads
from fleet_cloud.factory.report.artifacts import make_artifacts
from fleet_cloud.factory.report.making import make_report
from fleet_cloud.factory.variant import Candidate

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
    fix_threads()
    splits = load_splits(recipe.dataset, recipe.training.seed)
    say(Stage(name="data", detail=f"{recipe.dataset.kind}: {splits.describe()}"))
    lab, means = make_lab(splits, recipe.training.seed, say), Means(keeper, fetched, allow_code)
    made = make_candidates(recipe, lab, digest_splits(splits), means)
    check_gates(made.variants)
    made = replace(made, variants=[explain(one, lab) for one in made.variants])
    say(Stage(name="measuring", detail="on the test split; golden vectors"))
    evaluations = judge_variants(made.variants, made.reference, splits, peers)
    packages = [release(one, evaluations[one.name], splits, peers, say) for one in made.variants]
    lineage = _describe(recipe, splits, made)
    report = make_report(recipe, splits, made.base, made.variants, evaluations, made.reference, lineage)
    return Built(packages, lineage, {**_collect(made), **make_artifacts(report)})


def explain(candidate: Candidate, lab: Lab) -> Candidate:
    """Return a variant that will be released with what a report says of its int8 layers among the facts of
    its last pass."""
    made = candidate.made
    if not made.steps or made.steps[-1].facts.get("sensitivity"):
        return candidate
    *steps, last = made.steps
    told = replace(last, facts={**last.facts, **explain_int8(made.network, lab)})
    return replace(candidate, made=replace(made, steps=(*steps, told)))


def check_gates(candidates: Sequence[Candidate]) -> None:
    """Raise `BuildError` (``build.gate``) when a variant does not hold its gates, naming each of them."""
    failed = [candidate for candidate in candidates if candidate.failures]
    if failed:
        raise BuildError(
            "; ".join(candidate.explain() for candidate in failed),
            hint="train longer, compress less, or change the gate in the recipe; nothing was registered",
            code="build.gate",
        )


def _describe(recipe: Recipe, splits: Splits, made: Candidates) -> dict[str, Any]:
    """Return the lineage: what the version was made of, by what, and how it went."""
    machinery = describe_machinery()
    lineage = {
        "recipe": describe_recipe(recipe),
        "data_sha256": splits.digest,
        "code_sha256": machinery["code"],
        "libraries": machinery["libraries"],
        "variants": {candidate.name: candidate.describe() for candidate in made.variants},
    }
    for training in made.base.steps:
        said = training.describe()
        lineage["history"] = said.pop("facts").get("history", [])
        lineage["training"] = said
    return lineage


def _collect(made: Candidates) -> dict[str, bytes]:
    """Return the Keras models by the names of their artifacts."""
    last = {f"keras/{candidate.name}": candidate.model for candidate in made.variants}
    models = {"keras": made.base.network.model, **last}
    return {name: write_keras(model) for name, model in models.items() if model is not None}
