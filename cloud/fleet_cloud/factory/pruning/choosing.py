"""Which channels to remove: the lowest scores, to widths that hardware likes, as many as was asked for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.pruning.dependencies import Group

Array = NDArray[Any]
Scope = Literal["layer", "global"]
STEPS: Final = 40
"""Halvings of the share until it is as near to what was asked as it gets."""


def choose(
    groups: Sequence[Group], scores: Mapping[str, Array], share: float, scope: Scope, multiple: int
) -> frozenset[int]:
    """Return the channels of the lowest scores, a ``share`` of them from 0 to 1: of each group, or of all
    groups together. What remains of a group is rounded to the nearest multiple, and is at least one; a group
    no wider than that stays. Ties are broken by the order of the channels."""
    wanted = _count_each(groups, share) if scope == "layer" else _count_global(groups, scores, share)
    removed: list[int] = []
    for group in groups:
        width = len(group.channels)
        remain = _round(wanted[group.name], width, multiple)
        order = np.argsort(scores[group.name], kind="stable")
        removed += [group.channels[index] for index in order[: width - remain]]
    return frozenset(removed)


def solve(
    target: float,
    choose_at: Callable[[float], frozenset[int]],
    measure: Callable[[frozenset[int]], float],
) -> frozenset[int]:
    """Return the choice whose measure is nearest to ``target``, but not an empty one if there is another.

    ``measure`` must grow with the share. If even a share of 1 stays below the target, that is the choice.
    """
    low, high = 0.0, 1.0
    below, above = choose_at(low), choose_at(high)
    if measure(above) <= target:
        return above
    for _ in range(STEPS):
        middle = (low + high) / 2
        chosen = choose_at(middle)
        if measure(chosen) < target:
            low, below = middle, chosen
        else:
            high, above = middle, chosen
    nearer = target - measure(below) < measure(above) - target
    return below if below and nearer else above


def _count_each(groups: Sequence[Group], share: float) -> dict[str, float]:
    return {group.name: len(group.channels) * (1 - share) for group in groups}


def _count_global(groups: Sequence[Group], scores: Mapping[str, Array], share: float) -> dict[str, float]:
    """Return how many of each group are not among the lowest of all."""
    owners = np.repeat(np.arange(len(groups)), [len(group.channels) for group in groups])
    values = np.concatenate([scores[group.name] for group in groups])
    removed = np.argsort(values, kind="stable")[: round(len(values) * share)]
    counts = np.bincount(owners[removed], minlength=len(groups))
    return {
        group.name: len(group.channels) - float(count) for group, count in zip(groups, counts, strict=True)
    }


def _round(wanted: float, width: int, multiple: int) -> int:
    if wanted >= width:
        return width
    return min(width, max(multiple, multiple * int(wanted / multiple + 0.5)))
