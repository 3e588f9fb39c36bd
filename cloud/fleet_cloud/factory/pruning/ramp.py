"""Zeros that become more while the network trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.constraints import Parts
from fleet_cloud.factory.pruning.patterns import GROUP, KEPT, adapt, choose, find_units
from fleet_cloud.factory.recipe.passes import PruneWeights

Array = NDArray[Any]

REVISIONS: Final = 30
"""The masks are chosen anew at most so often: each time takes the weights from the device and sorts them."""


@dataclass(frozen=True)
class Ramp:
    """A `Schedule` over the `Mask`s at ``paths``; others stay. ``initial``: the share of zeros before.

    s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3 (Zhu and Gupta 2017, section 3), from ``begin`` over
    half of the steps that are left then: in the other half the network recovers. What is zero stays zero.
    """

    settings: PruneWeights
    paths: tuple[str, ...]
    initial: float

    def due(self, steps: int) -> Sequence[int]:
        begin, end = self._span(steps)
        return sorted({int(step) for step in np.linspace(begin, end, min(REVISIONS, end - begin + 1))})

    def share(self, step: int, steps: int) -> float:
        """Return the share of zeros at a step."""
        begin, end = self._span(steps)
        if step >= end:
            return self.settings.sparsity
        left = 1 - max(0, step - begin) / (end - begin)
        return self.settings.sparsity + (self.initial - self.settings.sparsity) * left**3

    def revise(self, step: int, steps: int, parts: dict[str, Parts]) -> dict[str, tuple[Array, ...]]:
        weights = {path: (parts[path].trained[0], parts[path].held[0]) for path in self.paths}
        masks = choose_masks(weights, self.share(step, steps), self.settings)
        return {path: (mask,) for path, mask in masks.items()}

    def _span(self, steps: int) -> tuple[int, int]:
        begin = int(self.settings.begin * steps)
        return begin, begin + (steps - begin) // 2


def choose_masks(
    weights: Mapping[str, tuple[Array, Array]], share: float, settings: PruneWeights
) -> dict[str, Array]:
    """Return the masks of weights, given as (latent, mask) by path, when ``share`` of them is zero."""
    units = {
        path: find_units(latent, mask, settings.pattern, settings.block)
        for path, (latent, mask) in weights.items()
    }
    if settings.pattern == "2:4":
        share *= GROUP / (GROUP - KEPT)  # only so many may go, and in the end all of these do
    if settings.scope == "adaptive":
        units = {path: adapt(one) for path, one in units.items()}
    groups = [[path] for path in units] if settings.scope == "layer" else [list(units)]
    kept = {
        path: stays
        for group in groups
        for path, stays in zip(group, choose([units[path] for path in group], share), strict=True)
    }
    return {path: mask * kept[path].astype(mask.dtype) for path, (_latent, mask) in weights.items()}
