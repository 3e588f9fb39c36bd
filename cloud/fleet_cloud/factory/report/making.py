"""From what a build has at its end to its report."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fleet_cloud.factory.data import Splits
from fleet_cloud.factory.evaluation.results import Evaluation
from fleet_cloud.factory.evaluation.tensors import describe_weights
from fleet_cloud.factory.gates import judge_gates
from fleet_cloud.factory.pipeline import Made, Step
from fleet_cloud.factory.recipe import Recipe, merge_gates
from fleet_cloud.factory.report.document import (
    DataReport,
    GateReport,
    PassReport,
    Report,
    TryReport,
    VariantReport,
)
from fleet_cloud.factory.variant import Candidate


def make_report(
    recipe: Recipe,
    splits: Splits,
    base: Made,
    candidates: Sequence[Candidate],
    evaluations: Mapping[str, Evaluation],
    reference: bytes,
    lineage: Mapping[str, Any],
) -> Report:
    """``base``: the float network as it was made; ``reference``: its file; ``evaluations``: of the variants
    on the test split, by name."""
    return Report(
        model=recipe.model,
        task=splits.task,
        labels=splits.labels,
        variants=tuple(_describe(recipe, one, evaluations[one.name]) for one in candidates),
        data=DataReport(
            kind=recipe.dataset.kind,
            sha256=splits.digest,
            train=len(splits.train),
            validation=len(splits.validation),
            test=len(splits.test),
        ),
        training=_describe_step(base.steps[0], {}) if base.steps else None,
        float_weights=describe_weights(reference),
        lineage={name: value for name, value in lineage.items() if name not in {"history", "variants"}},
    )


def _describe(recipe: Recipe, candidate: Candidate, evaluation: Evaluation) -> VariantReport:
    gates = judge_gates(merge_gates(recipe.gates, candidate.recipe.gates), candidate.measured)
    steps = zip(candidate.made.steps, candidate.recipe.passes, strict=True)
    return VariantReport(
        evaluation=evaluation,
        target=candidate.recipe.target,
        passes=tuple(_describe_step(step, msgspec.to_builtins(settings)) for step, settings in steps),
        gates=tuple(
            GateReport(name=one.gate, bound=one.bound, found=one.found, held=one.held) for one in gates
        ),
        tried=tuple(TryReport(passes=one["passes"], failed=tuple(one["failed"])) for one in candidate.tried),
    )


def _describe_step(step: Step, settings: Mapping[str, Any]) -> PassReport:
    return PassReport(
        name=step.name,
        settings={name: value for name, value in settings.items() if name != "pass"},
        facts=dict(step.facts),
        validation_score=step.score,
        seconds=step.seconds,
        cached=step.cached,
    )
