"""Numbers of a variant, short enough for a terminal of 100 columns."""

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
    """Return words separated by commas in lines of at most ``width`` characters, if no word is longer."""
    lines, line = [], ""
    for number, word in enumerate(words):
        piece = word + ("," if number < len(words) - 1 else "")
        if line and len(line) + 1 + len(piece) > width:
            lines.append(line)
            line = piece
        else:
            line = f"{line} {piece}" if line else piece
    return f"\n{indent}".join([*lines, line])


def _between(estimate: Estimate, factor: float, form: str) -> str:
    found = estimate.interval
    if found is None:
        return ""
    return f" ({_signed(factor * found.low, form)} to {_signed(factor * found.high, form)})"


def _signed(value: float, form: str) -> str:
    """Return a number without a sign where it is shown as zero."""
    text = f"{value:{form}}"
    return text if float(text) else f"{0:{form.removeprefix('+')}}"
