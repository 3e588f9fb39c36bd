"""95 % intervals of shares and of their differences. Pure Python: also read where a report is shown.

One share: Wilson's score interval (E. B. Wilson, JASA 22, 1927; the form of R. G. Newcombe, Statistics in
Medicine 17, 1998, 857-872, method 3): unlike Wald's it stays within 0 and 1, and is not empty at 0 or 1.

The difference of two shares on the same samples: Tango's score interval (T. Tango, Statistics in Medicine 17,
1998, 891-908), which inverts McNemar's test. Not the paired bootstrap: where no sample changes its class,
which is common for a good variant on few samples, the bootstrap's interval is a single point, and claims
what nobody can know.

The difference on different samples: Newcombe's hybrid score interval (Statistics in Medicine 17, 1998,
873-890, method 10).
"""

import math
from collections.abc import Callable
from typing import Final

from fleet_cloud.factory.evaluation.results import Estimate, Interval

Z: Final = 1.959963984540054
"""The 97.5 % point of the normal distribution."""
_HALVINGS: Final = 60


def estimate_share(right: int, count: int) -> Estimate:
    """Return ``right`` of ``count`` samples with Wilson's interval. ``count`` is at least 1."""
    if not 0 <= right <= count or not count:
        raise ValueError(f"{right} of {count} samples is no share")
    share, weight = right / count, Z * Z / count
    centre = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    low = 0.0 if right == 0 else centre - half
    high = 1.0 if right == count else centre + half
    return Estimate(value=share, interval=Interval(low=low, high=high))


def estimate_drop(lost: int, won: int, count: int) -> Estimate:
    """Return how much of the share of right samples is lost, from one model to another.

    ``lost``: samples that the first has right and the second wrong; ``won``: the other way round;
    ``count``: all. Positive where the second is worse.
    """
    if min(lost, won) < 0 or lost + won > count or not count:
        raise ValueError(f"{lost} lost and {won} won of {count} samples do not fit")
    value = (lost - won) / count

    def beyond(delta: float) -> float:
        return tango_score(lost, won, count, delta)

    low = _cross(lambda delta: beyond(delta) - Z, -1.0, value)
    high = _cross(lambda delta: beyond(delta) + Z, value, 1.0)
    return Estimate(value=value, interval=Interval(low=low, high=high))


def tango_score(lost: int, won: int, count: int, delta: float) -> float:
    """Return the score statistic of the hypothesis that the true difference is ``delta`` (Tango, equation 7);
    it falls with ``delta`` and is normal in the limit."""
    linear = -(lost + won) + (2 * count - lost + won) * delta
    constant = -won * delta * (1 - delta)
    root = math.sqrt(max(0.0, linear * linear - 8 * count * constant))
    won_share = (root - linear) / (4 * count)
    variance = count * (2 * won_share + delta * (1 - delta))
    distance = lost - won - count * delta
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def estimate_unpaired_drop(first: Estimate, second: Estimate) -> Estimate:
    """Return the difference of two shares that have Wilson's intervals, from samples of their own."""
    if first.interval is None or second.interval is None:
        raise ValueError("both shares need their intervals")
    a, b, value = first.interval, second.interval, first.value - second.value
    below = math.hypot(first.value - a.low, b.high - second.value)
    above = math.hypot(a.high - first.value, second.value - b.low)
    return Estimate(value=value, interval=Interval(low=value - below, high=value + above))


def is_significant(difference: Estimate) -> bool:
    """Tell whether the interval leaves 0 out."""
    found = difference.interval
    return found is not None and not found.low <= 0 <= found.high


def _cross(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a falling function crosses 0 between ``low`` and ``high``; the end that it has not
    crossed by."""
    if function(low) <= 0:
        return low
    if function(high) >= 0:
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
