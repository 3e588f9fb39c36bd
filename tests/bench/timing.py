"""Times and what is said of them."""

import math
import time
from collections.abc import Callable, Sequence


def time_calls(call: Callable[[], object], count: int) -> list[float]:
    """Return how long each of ``count`` calls took, in microseconds."""
    taken = []
    for _ in range(count):
        begin_ns = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - begin_ns) / 1000)
    return taken


def rank(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile, ``share`` above 0 and at most 1; of at least one value."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]
