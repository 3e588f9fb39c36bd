"""What may be said of differences between models that were asked the same questions.

A model's answers are a vector: 1 where an image was told right, else 0; of several seeds their mean. The
interval of a difference is the paired bootstrap's (Efron and Tibshirani, An Introduction to the Bootstrap,
1993, sections 13.3 and 10.5): images are drawn with replacement, each with what both models said of it, and
the interval leaves out 2.5 % of the means on either side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 10_000
SHARE: Final = 0.95

Answers = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """``mean``: of the first model's answers less the second's; ``low``, ``high``: the interval's ends."""

    mean: float
    low: float
    high: float


def top1(answers: Answers) -> float:
    """Return the share of right answers, from 0 to 1."""
    return float(np.mean(answers))


def average_seeds(answers: Sequence[Answers]) -> Answers:
    """Return the mean answer to each image over seeds: how often the method tells it right."""
    mean: Answers = np.stack([np.asarray(one, dtype=np.float64) for one in answers]).mean(axis=0)
    return mean


def compare(first: Answers, second: Answers, resamples: int = RESAMPLES, seed: int = 1) -> Difference:
    """Return how much better ``first`` is than ``second`` on the same images, with its interval.

    Few values occur among the differences, so a resample is drawn as how often each of them comes: which has
    the same distribution as drawing image by image (a multinomial one), at a fraction of the work.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} answers cannot be compared")
    differences = np.round(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64), 9)
    values, counts = np.unique(differences, return_counts=True)
    count = len(differences)
    drawn = np.random.default_rng(seed).multinomial(count, counts / count, size=resamples)
    low, high = np.quantile(drawn @ values / count, [(1 - SHARE) / 2, (1 + SHARE) / 2], method="inverted_cdf")
    return Difference(float(differences.mean()), float(low), float(high))
