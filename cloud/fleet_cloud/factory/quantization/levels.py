"""Weights on a grid of levels, each output channel with a scale of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import keras
import numpy as np

from fleet_cloud.factory.constraints import Array, Parts, Tensor, register


@register
@dataclass(frozen=True, eq=False)
class Levels:
    """weight = scale x the level nearest to latent / scale, exactly so in float32; zero where ``mask`` is.

    ``latent``: in the weight's shape; ``scales``: broadcasts to it; ``levels``: rising; ``borders``: between
    each two of them. The gradient goes straight through to the latent weight (Bengio, Léonard, Courville,
    2013), and to the scale as if the index were fixed and the rest its own (Esser et al., "Learned step size
    quantization", ICLR 2020, equation 3): level - latent / scale.
    """

    kind: ClassVar[str] = "levels"
    latent: Array
    scales: Array
    levels: Array
    borders: Array
    mask: Array

    def split(self) -> Parts:
        return Parts((self.latent, self.scales), (self.levels, self.borders, self.mask))

    def compose(self, trained: Sequence[Tensor], held: Sequence[Tensor]) -> Tensor:
        (latent, scales), (levels, borders, mask) = trained, held
        ops = keras.ops
        ratio = latent / scales
        index = ops.searchsorted(borders, ops.reshape(ratio, (-1,)))
        level = ops.reshape(ops.take(levels, index), ops.shape(ratio))
        straight = ratio - ops.stop_gradient(ratio)  # zero, with a gradient
        return (level * scales + straight * ops.stop_gradient(scales)) * mask

    def settle(self, parts: Parts) -> Self:
        return type(self)(*parts.trained, *parts.held)

    def scale(self, factor: Array) -> Self:
        return type(self)(self.latent * factor, self.scales * factor, self.levels, self.borders, self.mask)

    @property
    def indices(self) -> Array:
        """The index of each weight's level, in the weight's shape."""
        index = np.searchsorted(self.borders, self.latent / self.scales)
        zero = np.searchsorted(self.levels, np.float32(0))
        return np.where(self.mask > 0, index, zero)
