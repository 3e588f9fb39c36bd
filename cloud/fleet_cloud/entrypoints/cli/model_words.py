"""Numbers of a variant, short enough for a terminal of 100 columns."""

import textwrap
from typing import Any

from fleet_cloud.entrypoints.cli.output import describe_bytes
from fleet_cloud.factory.evaluation.results import Estimate


def say_accuracy(accuracy: Estimate | None, rmse: Estimate | None = None) -> str:
    """Return ``98.3 % (96.4 to 99.2)``, an RMSE, or ``unknown``."""
    if rmse is not None:
        return f"RMSE {rmse.value:.3g}" + _between(rmse, 1, ".3g")
    return "unknown" if accuracy is None else f"{100 * accuracy.value:.1f} %" + _between(accuracy, 100, ".1f")


def say_drop(drop: Estimate | None, *, regression: bool = False) -> str | None:
    """Return a difference in points, or of an RMSE."""
    if drop is None:
        return None
    factor, form = (1, "+.3g") if regression else (100, "+.1f")
    return _signed(factor * drop.value, form) + _between(drop, factor, form)


def say_bytes(count: int | None) -> str | None:
    return None if count is None else describe_bytes(count)


def say_time(microseconds: float | None) -> str | None:
    if microseconds is None:
        return None
    return f"{microseconds:.3g} us" if microseconds < 1000 else f"{microseconds / 1000:.3g} ms"


def say_count(count: int | None) -> str | None:
    """Return ``13.7 k``."""
    if count is None:
        return None
    for limit, unit, divisor in ((10_000, "", 1), (10**6, " k", 10**3), (10**9, " M", 10**6)):
        if count < limit:
            return f"{count}{unit}" if divisor == 1 else f"{count / divisor:.1f}{unit}"
    return f"{count / 10**9:.2f} G"


def say_value(value: Any) -> str:
    """Return a setting or a fact in a few characters."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ",".join(map(say_value, value))
    return str(value)


def wrap(words: list[str], width: int, indent: str) -> str:
    """Return words separated by commas in lines of at most ``width`` characters; a longer one is broken where
    it has a space."""
    lines = [""]
    for number, word in enumerate(words):
        comma = "," if number < len(words) - 1 else ""
        piece = f"{word}{comma}"
        parts = textwrap.wrap(piece, width, break_long_words=False, break_on_hyphens=False)
        first, *rest = parts or [piece]
        if lines[-1] and len(lines[-1]) + 1 + len(first) > width:
            lines.append(first)
        else:
            lines[-1] = f"{lines[-1]} {first}".lstrip()
        lines += rest
    return f"\n{indent}".join(lines)


def _between(estimate: Estimate, factor: float, form: str) -> str:
    found = estimate.interval
    if found is None:
        return ""
    return f" ({_signed(factor * found.low, form)} to {_signed(factor * found.high, form)})"


def _signed(value: float, form: str) -> str:
    """Return a number without a sign where it is shown as zero."""
    text = f"{value:{form}}"
    return text if float(text) else f"{0:{form.removeprefix('+')}}"
