"""The logarithmic quantizer over a range of magnitudes.

With u(r) = log(r + epsilon), from [r_min, r_max] to the integers of [q_min, q_max]:

    q = round((u(r) - u(r_min)) / (u(r_max) - u(r_min)) * (q_max - q_min) + q_min)
    r = exp((q - q_min) / (q_max - q_min) * (u(r_max) - u(r_min)) + u(r_min)) - epsilon

Levels lie evenly in the logarithm, and rounding is to the nearest in the logarithm. Signs are kept apart.
With r_min = 0 this is the mu-law of telephony (ITU-T G.711), mu = r_max / epsilon, and zero is a level.
Quantization to powers of a base is another one: `fleet_cloud.factory.quantization.powers`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class LogRange:
    """Raises `ValueError` for an empty range, or one whose logarithm is not finite."""

    r_min: float
    r_max: float
    q_min: int
    q_max: int
    epsilon: float

    def __post_init__(self) -> None:
        if not (0 <= self.r_min < self.r_max and self.r_min + self.epsilon > 0 <= self.epsilon):
            raise ValueError(f"no range of magnitudes: {self.r_min} to {self.r_max}, epsilon {self.epsilon}")
        if self.q_min >= self.q_max:
            raise ValueError(f"no range of integers: {self.q_min} to {self.q_max}")
        if not 0 < self._width < np.inf:
            raise ValueError("the range of the logarithm is too narrow or too wide for float64")

    @property
    def _width(self) -> float:
        """u(r_max) - u(r_min)"""
        return float(np.log(self.r_max + self.epsilon) - np.log(self.r_min + self.epsilon))

    @property
    def step(self) -> float:
        """Distance of two levels in the logarithm, D."""
        return self._width / (self.q_max - self.q_min)

    def quantize(self, magnitudes: ArrayLike) -> NDArray[np.int64]:
        """Return integers for magnitudes of any shape; what lies outside of the range goes to its ends."""
        r = np.clip(np.asarray(magnitudes, np.float64), self.r_min, self.r_max)
        from_min = np.log(r + self.epsilon) - np.log(self.r_min + self.epsilon)
        q = np.round(from_min / self._width * (self.q_max - self.q_min) + self.q_min)
        return np.asarray(np.clip(q, self.q_min, self.q_max).astype(np.int64))

    def dequantize(self, integers: ArrayLike) -> NDArray[np.float64]:
        """Return the magnitudes of integers; the ends give r_min and r_max themselves."""
        q = np.asarray(integers, np.float64)
        share = (q - self.q_min) / (self.q_max - self.q_min)
        r = np.exp(share * self._width + np.log(self.r_min + self.epsilon)) - self.epsilon
        return np.select([q <= self.q_min, q >= self.q_max], [self.r_min, self.r_max], r)

    def error_bound(self, magnitudes: ArrayLike) -> NDArray[np.float64]:
        """Return the most by which a magnitude of the range may differ afterwards.

        Rounding moves the logarithm by D/2 at most, so that (r' + epsilon) / (r + epsilon) is between
        exp(-D/2) and exp(D/2): |r' - r| <= (exp(D/2) - 1) (r + epsilon).
        """
        return np.asarray(np.expm1(self.step / 2) * (np.asarray(magnitudes, np.float64) + self.epsilon))


def quantize_signed(grid: LogRange, values: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Return the integers of magnitudes, and the signs (-1, 0, 1) that go with them."""
    real = np.asarray(values, np.float64)
    return grid.quantize(np.abs(real)), np.sign(real).astype(np.int8)


def dequantize_signed(grid: LogRange, integers: ArrayLike, signs: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(grid.dequantize(integers) * np.asarray(signs))
