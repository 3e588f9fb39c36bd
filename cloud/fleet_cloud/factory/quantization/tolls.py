"""The price of bits rises while a network trains, and follows which entries its weights have by then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fleet_cloud.factory.constraints import Array, Parts
from fleet_cloud.factory.quantization.codebooks import GRID

RISING: Final = 0.5
"""The share of the steps in which the price rises; in the others weights settle."""
REVISIONS: Final = 40
"""So many times the tolls are computed anew in a training."""


@dataclass(frozen=True)
class RisingTolls:
    """A `Schedule` for weights with a `ChangingCodebook`.

    ``prices``: what a bit costs in the end, beside (latent / scale - entry)^2, by the path of the weight;
    each broadcasts to it. An entry's toll is the price times the bits of an ideal coder for the shares that
    entries have now, each counted once more than it occurs, so that none is lost for good.
    """

    prices: Mapping[str, Array]

    def due(self, steps: int) -> Sequence[int]:
        last = int(RISING * steps)
        return sorted({int(step) for step in np.linspace(0, last, min(REVISIONS, last + 1))})

    def revise(self, step: int, steps: int, parts: dict[str, Parts]) -> dict[str, tuple[Array, ...]]:
        last = int(RISING * steps)
        risen = min(1.0, step / last) if last else 1.0
        return {path: _revise(parts[path], risen * price) for path, price in self.prices.items()}


def _revise(parts: Parts, price: Array) -> tuple[Array, ...]:
    (latent, entries, scales), (free, tolls, pinned) = parts.trained, parts.held
    values = np.round(np.clip(entries, -1.0, 1.0) * GRID) / GRID
    cost = np.square((latent / scales)[..., np.newaxis] - values) + tolls
    indices = np.where(pinned < 0, cost.argmin(axis=-1), pinned)
    counts = np.bincount(indices.ravel(), minlength=len(entries)) + 1
    bits = -np.log2(counts / counts.sum())
    return free, (price[..., np.newaxis] * bits).astype(np.float32), pinned
