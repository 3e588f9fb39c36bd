"""The area under the ROC curve.

It is the share of pairs, one sample of the class and one of the others, in which the score puts the first
higher; pairs of equal scores count one half (J. A. Hanley and B. J. McNeil, Radiology 143, 1982). By ranks:
AUC = (R - n(n + 1)/2) / (n m), R the sum of the ranks of the n samples of the class among all n + m, equal
scores sharing the mean of their ranks.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def compute_auc(scores: NDArray[Any], of_class: NDArray[np.bool_]) -> float | None:
    """Return the area; none unless there are samples of the class and others."""
    count, others = int(of_class.sum()), int((~of_class).sum())
    if not count or not others:
        return None
    ranks = rank(scores)
    return float((ranks[of_class].sum() - count * (count + 1) / 2) / (count * others))


def rank(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the rank of each value, from 1; equal values get the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: NDArray[np.float64] = last - (counts - 1) / 2
    return means[inverse.reshape(-1)]
