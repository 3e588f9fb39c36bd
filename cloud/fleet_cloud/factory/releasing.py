"""From variants that hold their gates to what is registered: the test split is read here, once for each."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.data import Splits
from fleet_cloud.factory.evaluation import judging
from fleet_cloud.factory.evaluation.results import Evaluation
from fleet_cloud.factory.events import BuildEvent, VariantBuilt, Warned
from fleet_cloud.factory.golden import TOO_FAR
from fleet_cloud.factory.imported import draw_random_samples, warn_of_random_samples
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.operations import count_operations, count_parameters
from fleet_cloud.factory.package import Package, package
from fleet_cloud.factory.peers import Peer
from fleet_cloud.factory.quantization.targets import TARGETS
from fleet_cloud.factory.variant import Candidate
from fleet_shared.manifest import Metrics
from fleet_shared.pixels import to_real

GOLDEN_CANDIDATES: Final = 64

Say = Callable[[BuildEvent], None]


def judge_variants(
    candidates: Sequence[Candidate], reference: bytes, splits: Splits, peers: Sequence[Peer] = ()
) -> dict[str, Evaluation]:
    """Return what the variants are on the test split, by name. ``reference``: the float file;
    ``peers``: other runtimes, to time them."""
    questions = judging.Questions(
        real=to_real(splits.test.x, splits.preprocessing),
        y=splits.test.y,
        split="test",
        task=splits.task,
        labels=splits.labels,
    )
    files = [_describe(one) for one in candidates]
    return {one.variant: one for one in judging.judge(files, questions, reference, peers)}


def _describe(candidate: Candidate) -> judging.Candidate:
    model = candidate.model
    if model is None:  # a file whose layers nobody knows
        return judging.describe_file(candidate.name, candidate.content)
    parameters, operations = count_parameters(model), count_operations(model)
    return judging.Candidate(candidate.name, candidate.content, parameters, operations)


def release(
    candidate: Candidate, evaluation: Evaluation, splits: Splits, peers: Sequence[Peer], say: Say
) -> Package:
    """Return the variant as it is registered, with golden vectors of the validation split. Raises
    `BuildError` (``build.target``) when its target, which is at hand here, computes something else: on
    samples, for noise proves nothing."""
    metrics = Metrics(
        accuracy=evaluation.accuracy,
        validation_accuracy=candidate.measured.accuracy,
        latency_p50_us=None if evaluation.latency is None else evaluation.latency.p50_us,
        test_samples=None if evaluation.samples is None else evaluation.samples.count,
    )
    built = package(
        candidate.name,
        candidate.content,
        labels=splits.labels,
        preprocessing=splits.preprocessing,
        metrics=metrics,
        candidates=_draw_golden(candidate.content, splits),
        peers=peers,
    )
    if len(splits.validation):
        _check_target(candidate, built)
    else:
        built = warn_of_random_samples(built)
    say(
        VariantBuilt(
            name=candidate.name,
            size_bytes=len(candidate.content),
            accuracy=metrics.accuracy,
            validation_accuracy=metrics.validation_accuracy,
            latency_p50_us=metrics.latency_p50_us,
        )
    )
    for warning in built.warnings:
        say(Warned(message=warning))
    return built


def _check_target(candidate: Candidate, built: Package) -> None:
    target = candidate.recipe.target
    runtime, _version = TARGETS[target]
    if built.left_out.get(runtime) == TOO_FAR:
        raise BuildError(
            f"variant {candidate.name!r} is not for its target {target}: {TOO_FAR}",
            hint="choose other passes for this target, or another target",
            code="build.target",
        )


def _draw_golden(content: bytes, splits: Splits) -> list[list[NDArray[Any]]]:
    """Return samples of the validation split, classes taking turns where there are some; random ones where
    there is no split."""
    model, validation = LiteModel(content), splits.validation
    if not len(validation):
        return draw_random_samples(model, splits.preprocessing)
    classes = splits.task == "classification" and validation.y is not None
    chosen = pick_in_turns(np.asarray(validation.y)) if classes else list(range(GOLDEN_CANDIDATES))
    real = to_real(validation.x[chosen[: len(validation)]], splits.preprocessing)
    return [[model.quantize(real[i : i + 1])] for i in range(len(real))]


def pick_in_turns(y: NDArray[np.int64], count: int = GOLDEN_CANDIDATES) -> list[int]:
    """Return the indices of the first ``count`` samples, classes taking turns."""
    turn = np.zeros(len(y), dtype=np.int64)
    for number in np.unique(y):
        turn[y == number] = np.arange(np.sum(y == number))
    return [int(i) for i in np.argsort(turn, kind="stable")[:count]]
