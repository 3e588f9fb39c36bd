"""Numbers and names as the report shows them. Names and labels are users': everything is escaped."""

import html
import unicodedata
from typing import Any, Final

from fleet_cloud.factory.evaluation.results import Estimate

NOTHING: Final = "-"


def clean(text: str) -> str:
    """Return text without what no page can hold: control characters, halves of characters."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(" " if unicodedata.category(one) in {"Cc", "Cf"} else one for one in whole).strip()


def escape(text: str) -> str:
    return html.escape(clean(text), quote=True)


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def shorten_path(text: str, limit: int) -> str:
    """Return the end of a name that goes from the whole to the part: converters write long ones."""
    return text if len(text) <= limit else f"…{text[1 - limit :]}"


def say_percent(value: float | None, digits: int = 1) -> str:
    return NOTHING if value is None else f"{100 * value:.{digits}f} %"


def say_share(estimate: Estimate | None) -> str:
    """Return ``98.1 % (96.2 to 99.0)``."""
    if estimate is None:
        return NOTHING
    found = estimate.interval
    interval = "" if found is None else f" ({100 * found.low:.1f} to {100 * found.high:.1f})"
    return f"{100 * estimate.value:.1f} %{interval}"


def say_points(estimate: Estimate | None) -> str:
    """Return a difference of shares in percentage points, with its sign: ``+0.3 (-0.1 to 0.8)``."""
    if estimate is None:
        return NOTHING
    found = estimate.interval
    interval = "" if found is None else f" ({_signed(100 * found.low, 1)} to {_signed(100 * found.high, 1)})"
    return f"{_signed(100 * estimate.value, 1)}{interval}"


def say_number(estimate: Estimate | None) -> str:
    if estimate is None:
        return NOTHING
    found = estimate.interval
    return f"{estimate.value:.4g}" + ("" if found is None else f" ({found.low:.4g} to {found.high:.4g})")


def say_bytes(count: int | None) -> str:
    """Return ``98.2 KiB``."""
    if count is None:
        return NOTHING
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def say_count(count: int | None) -> str:
    """Return ``12.5 M``."""
    if count is None:
        return NOTHING
    for limit, unit, divisor in ((1e4, "", 1), (1e6, " k", 1e3), (1e9, " M", 1e6)):
        if count < limit:
            return f"{count / divisor:.0f}{unit}" if divisor == 1 else f"{count / divisor:.1f}{unit}"
    return f"{count / 1e9:.2f} G"


def say_time(microseconds: float | None) -> str:
    if microseconds is None:
        return NOTHING
    return f"{microseconds:.3g} µs" if microseconds < 1000 else f"{microseconds / 1000:.3g} ms"


def say_value(value: Any) -> str:
    """Return a setting or a fact in a few characters."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NOTHING}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {say_value(one)}" for name, one in value.items()) or NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(map(say_value, value)) or NOTHING
    return shorten(clean(str(value)), 200)


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text if float(text) else f"{0:.{digits}f}"
