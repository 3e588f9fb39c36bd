"""Attention transfer (Zagoruyko and Komodakis 2017: Paying More Attention to Attention, section 3.1).

L = sum over pairs of layers of ||A_s - A_t||^2, the mean over the samples, so that the loss does not grow
with the batch. A is the attention map of a layer: the mean over the channels of its squared activations,
flattened, divided by its L2 norm. Maps of different size are pooled to the smaller height and width.
"""

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

Tensor = Any

TINY: Final = 1e-24
"""A map whose squares sum to less is one of zeros: it has no direction, and no gradient."""


def attention_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the loss of activations (batch, height, width, channels), in pairs."""
    pairs = zip(student, teacher, strict=True)
    return sum(_distance(ours, theirs) for ours, theirs in pairs)


def attention_map(activations: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the maps (batch, height x width) of activations, pooled to ``size``."""
    ops = keras.ops
    maps = ops.mean(ops.square(activations), axis=-1)
    height, width = activations.shape[1:3]
    maps = ops.matmul(averages(height, size[0]), ops.matmul(maps, averages(width, size[1]).T))
    flat = ops.reshape(maps, (-1, size[0] * size[1]))
    squares = ops.sum(ops.square(flat), axis=-1, keepdims=True)
    return flat * ops.rsqrt(ops.maximum(squares, TINY))


def averages(before: int, after: int) -> NDArray[np.float32]:
    """Return the matrix (after, before) of average pooling: row i takes the mean from floor(i before / after)
    to ceil((i + 1) before / after), so that all are taken also where ``after`` does not divide ``before``."""
    matrix = np.zeros((after, before), np.float32)
    for row in range(after):
        begin, end = row * before // after, -(-(row + 1) * before // after)
        matrix[row, begin:end] = 1 / (end - begin)
    return matrix


def _distance(ours: Tensor, theirs: Tensor) -> Tensor:
    size = (min(ours.shape[1], theirs.shape[1]), min(ours.shape[2], theirs.shape[2]))
    apart = attention_map(ours, size) - attention_map(theirs, size)
    return keras.ops.mean(keras.ops.sum(keras.ops.square(apart), axis=-1))
