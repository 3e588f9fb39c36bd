"""TFLite's scheme: r = scale * (q - zero_point), in which zero is exact.

Padding and ReLU need that. Activations are asymmetric: the range is widened to contain 0, and the zero
point rounded to an integer ("nudged"; Jacob et al., 2018, section 3.1). Weights are symmetric with a narrow
range, -127 to 127, by output channel, so that their zero point is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

INT8_MIN: Final = -128
INT8_MAX: Final = 127


@dataclass(frozen=True)
class Affine:
    """``scale``: the real size of one step, positive; one, or one for each channel in a shape that broadcasts
    to the tensor. ``zero_point``: the integer that is 0."""

    scale: NDArray[np.float64]
    zero_point: int = 0
    q_min: int = INT8_MIN
    q_max: int = INT8_MAX

    def quantize(self, real: Array) -> NDArray[np.int64]:
        """Return the integers, rounded half to even and saturated."""
        steps = np.rint(np.asarray(real, np.float64) / self.scale) + self.zero_point
        quantized: NDArray[np.int64] = np.clip(steps, self.q_min, self.q_max).astype(np.int64)
        return quantized

    def dequantize(self, quantized: Array) -> NDArray[np.float64]:
        real: NDArray[np.float64] = (np.asarray(quantized, np.float64) - self.zero_point) * self.scale
        return real

    @property
    def range(self) -> tuple[Array, Array]:
        """The smallest and the largest real number that there is an integer for."""
        return self.dequantize(np.asarray(self.q_min)), self.dequantize(np.asarray(self.q_max))


def fit_range(r_min: float, r_max: float, q_min: int = INT8_MIN, q_max: int = INT8_MAX) -> Affine:
    """Return the scheme of an activation.

    Within the range, widened to contain 0, an error is at most half a step: the grid moves by at most that
    when the zero point is rounded. Raises `ValueError` for a range that is none.
    """
    if not (np.isfinite(r_min) and np.isfinite(r_max) and r_min <= r_max and q_min < q_max):
        raise ValueError(f"no range: {r_min} to {r_max}, {q_min} to {q_max}")
    low, high = min(r_min, 0.0), max(r_max, 0.0)
    scale = high / (q_max - q_min) - low / (q_max - q_min)  # their difference may be too large for a float
    if scale < np.finfo(np.float64).tiny:  # nothing but zeros
        return Affine(np.asarray(1.0), q_min, q_min, q_max)
    zero_point = int(np.clip(np.rint(q_min - low / scale), q_min, q_max))
    return Affine(np.asarray(scale), zero_point, q_min, q_max)


def fit_weights(weights: Array, channels: Sequence[int], bits: int = 8) -> Affine:
    """Return the scheme of a weight: ``channels`` are the axes of its output channels, none of which means
    one scale for all. The largest magnitude of each channel is exact."""
    others = tuple(axis for axis in range(weights.ndim) if axis not in channels)
    largest = np.abs(np.asarray(weights, np.float64)).max(axis=others, keepdims=True)
    q_max = 2 ** (bits - 1) - 1
    return Affine(np.where(largest > 0, largest, q_max) / q_max, 0, -q_max, q_max)
