"""Linear quantization as the mission gives it: one range of real numbers onto one of integers.

    q = round((r - r_min) / (r_max - r_min) * (q_max - q_min) + q_min)
    r = (q - q_min) / (q_max - q_min) * (r_max - r_min) + r_min

The ends of the range are exact and zero need not be: [-1, 1] onto [0, 255] maps 0 between two integers.
TFLite's scheme, in which zero is exact, is another one: `fleet_cloud.factory.quantization.affine`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class LinearRange:
    """``r_min`` maps to ``q_min`` and ``r_max`` to ``q_max``. Raises `ValueError` for an empty range, or one
    too wide for a float."""

    r_min: float
    r_max: float
    q_min: int = 0
    q_max: int = 255

    def __post_init__(self) -> None:
        if not (0 < self.r_max - self.r_min < np.inf and self.q_min < self.q_max):
            raise ValueError(f"no range: {self}")

    @property
    def factor(self) -> float:
        """Integers for one unit of the real numbers."""
        return (self.q_max - self.q_min) / (self.r_max - self.r_min)

    @property
    def error_max(self) -> float:
        """How far a real number within the range may be from what is read back: half a step."""
        return 0.5 / self.factor

    def quantize(self, real: Array) -> NDArray[np.int64]:
        """Return the integers, rounded half to even; what lies outside of the range gets its ends."""
        steps = (np.asarray(real, np.float64) - self.r_min) / (self.r_max - self.r_min)
        rounded = np.rint(steps * (self.q_max - self.q_min) + self.q_min)
        return np.clip(rounded, self.q_min, self.q_max).astype(np.int64)

    def dequantize(self, quantized: Array) -> NDArray[np.float64]:
        share = (np.asarray(quantized, np.float64) - self.q_min) / (self.q_max - self.q_min)
        real: NDArray[np.float64] = share * (self.r_max - self.r_min) + self.r_min
        return real
