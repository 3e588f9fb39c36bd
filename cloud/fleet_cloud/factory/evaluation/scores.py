"""Outputs against the truth: classes, errors, agreement. NumPy alone, no interpreter.

Outputs are real-valued, (samples, outputs). A class is the largest output, the first of equal ones; with a
single output it is class 1 above one half.
"""

import base64
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.evaluation.auc import compute_auc
from fleet_cloud.factory.evaluation.intervals import estimate_drop, estimate_share
from fleet_cloud.factory.evaluation.results import (
    Against,
    Classification,
    ClassResult,
    Estimate,
    Interval,
    Mistake,
    Regression,
)

Array = NDArray[Any]
Floats = NDArray[np.floating[Any]]

RESAMPLES: Final = 1000
"""Draws of a bootstrap: its bounds move by about 5 % of the width from seed to seed."""
CONFUSION_CLASSES_MAX: Final = 200
"""A thousand classes would be a million numbers for each variant."""
MISTAKES_MAX: Final = 50
_DRAWN_AT_ONCE: Final = 4_000_000
"""Indices of a bootstrap that are held at a time: 32 MB."""


def take_classes(outputs: Floats) -> NDArray[np.int64]:
    """Return the class of each sample."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0.5).astype(np.int64)
    largest: NDArray[np.int64] = outputs.argmax(axis=1)
    return largest


def score_classes(outputs: Floats, y: Array, labels: Sequence[str]) -> Classification:
    """``y``: class numbers below the number of ``labels``; there is at least one sample."""
    taken, truth = take_classes(outputs), np.asarray(y, dtype=np.int64)
    count = max(len(labels), 2 if outputs.shape[1] == 1 else outputs.shape[1])
    names = [*labels, *(str(number) for number in range(len(labels), count))]
    confusion = np.zeros((count, count), dtype=np.int64)
    np.add.at(confusion, (truth, taken), 1)
    scores = np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs
    aucs = [compute_auc(scores[:, number], truth == number) for number in range(scores.shape[1])]
    classes = tuple(
        ClassResult(
            label=names[number],
            samples=int(confusion[number].sum()),
            precision=_share(confusion[number, number], confusion[:, number].sum()),
            recall=_share(confusion[number, number], confusion[number].sum()),
            auc=aucs[number] if number < len(aucs) else None,
        )
        for number in range(count)
    )
    return Classification(
        top1=estimate_share(int(np.trace(confusion)), len(truth)),
        classes=classes,
        confusion=tuple(map(tuple, confusion.tolist())) if count <= CONFUSION_CLASSES_MAX else (),
        auc=_whole_auc(aucs),
        mistakes=_list_mistakes(confusion, names),
    )


def score_errors(outputs: Floats, y: Array, seed: int = 0) -> Regression:
    """``y``: (samples, outputs), or (samples,) for one output. Intervals are percentiles of a bootstrap."""
    truth = _targets(y, outputs)
    error = outputs.astype(np.float64) - truth
    absolute, squared = np.abs(error).mean(axis=1), np.square(error).mean(axis=1)
    means = _resample(np.stack([absolute, squared], axis=1), seed)
    residual, total = np.square(error).sum(axis=0), np.square(truth - truth.mean(axis=0)).sum(axis=0)
    return Regression(
        mae=Estimate(value=float(absolute.mean()), interval=_percentiles(means[:, 0])),
        rmse=Estimate(value=float(np.sqrt(squared.mean())), interval=_percentiles(np.sqrt(means[:, 1]))),
        r2=float((1 - residual / total).mean()) if np.all(total > 0) else None,
    )


def compare_outputs(
    outputs: Floats, reference: Floats, y: Array | None, *, classes: bool, seed: int = 0
) -> Against:
    """Return what a variant's ``outputs`` are beside those of the float model, on the same samples; without
    ``y`` no drop is known."""
    difference = np.abs(outputs.astype(np.float64) - reference)
    return Against(
        agreement=_agreement(outputs, reference) if classes else None,
        drop=None if y is None else _drop(outputs, reference, y, classes=classes, seed=seed),
        difference_mean=float(difference.mean()),
        difference_max=float(difference.max()),
    )


def write_right(outputs: Floats, y: Array) -> str:
    """Return which samples are right, as `Evaluation.right` has it."""
    return base64.b64encode(np.packbits(take_classes(outputs) == y).tobytes()).decode()


def _agreement(outputs: Floats, reference: Floats) -> Estimate:
    same = take_classes(outputs) == take_classes(reference)
    return estimate_share(int(same.sum()), len(same))


def _drop(outputs: Floats, reference: Floats, y: Array, *, classes: bool, seed: int) -> Estimate:
    if not classes:
        return _rmse_added(outputs, reference, y, seed)
    before, after = take_classes(reference) == y, take_classes(outputs) == y
    return estimate_drop(int((before & ~after).sum()), int((after & ~before).sum()), len(before))


def _rmse_added(outputs: Floats, reference: Floats, y: Array, seed: int) -> Estimate:
    """The same samples are drawn for both: a paired bootstrap."""
    truth = _targets(y, outputs)
    squared = np.stack([np.square(one - truth).mean(axis=1) for one in (outputs, reference)], axis=1)
    after, before = np.sqrt(squared.mean(axis=0))
    means = np.sqrt(_resample(squared, seed))
    return Estimate(value=float(after - before), interval=_percentiles(means[:, 0] - means[:, 1]))


def _resample(values: Floats, seed: int) -> Floats:
    """Return the mean over the samples, of `RESAMPLES` draws with replacement: (draws, columns)."""
    random, count = np.random.default_rng(seed), len(values)
    at_once = max(1, _DRAWN_AT_ONCE // count)
    sizes = [min(at_once, RESAMPLES - begin) for begin in range(0, RESAMPLES, at_once)]
    return np.concatenate([values[random.integers(count, size=(size, count))].mean(axis=1) for size in sizes])


def _percentiles(draws: Floats) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(low=float(low), high=float(high))


def _targets(y: Array, outputs: Floats) -> Floats:
    return np.asarray(y, dtype=np.float64).reshape(outputs.shape)


def _list_mistakes(confusion: NDArray[np.int64], names: Sequence[str]) -> tuple[Mistake, ...]:
    """Return the most common first; of equal ones, in the order of the classes."""
    wrong = confusion - np.diag(np.diag(confusion))
    rows, columns = np.nonzero(wrong)
    most = np.argsort(-wrong[rows, columns], kind="stable")[:MISTAKES_MAX]
    return tuple(
        Mistake(
            label=names[row],
            taken_for=names[column],
            samples=int(wrong[row, column]),
            share=float(wrong[row, column] / confusion[row].sum()),
        )
        for row, column in zip(rows[most], columns[most], strict=True)
    )


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None


def _whole_auc(aucs: Sequence[float | None]) -> float | None:
    if len(aucs) == 2:
        return aucs[1]
    known = [auc for auc in aucs if auc is not None]
    return float(np.mean(known)) if known and len(known) == len(aucs) else None
