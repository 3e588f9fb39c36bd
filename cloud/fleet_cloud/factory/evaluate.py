"""Accuracy and latency of one file, as the first builds measured them.

`fleet_cloud.factory.evaluation` measures more; this stays until nobody calls it.
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.lite import Kernels, LiteModel

__all__ = ["Evaluation", "Kernels", "LiteModel", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    accuracy: float
    latency_p50_us: float
    samples: int
    classes: NDArray[np.int64]


def evaluate(model: LiteModel, real: NDArray[np.float32], y: NDArray[np.int64]) -> Evaluation:
    """Return accuracy over real-valued samples, and the median time of one inference."""
    classes, times = np.zeros(len(y), dtype=np.int64), []
    for index, sample in enumerate(real):
        given = model.quantize(sample[np.newaxis])
        begin = time.perf_counter()
        (output, *_) = model.run([given])
        times.append(time.perf_counter() - begin)
        classes[index] = output[0].argmax()
    return Evaluation(float(np.mean(classes == y)), float(np.median(times)) * 1e6, len(y), classes)
