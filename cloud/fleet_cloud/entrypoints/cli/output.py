"""How results are printed: a table for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("-o", "--output", help="How to print the result.")]


def print_json(value: Any) -> None:
    """Print ``value`` (built-in types, structs) as one indented JSON document."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    sys.stdout.flush()  # whoever reads it may not wait for the end


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print aligned columns, or the sentence ``empty`` when there is nothing to show."""
    cells = [["-" if cell is None or cell == "" else make_plain(str(cell)) for cell in row] for row in rows]
    if not cells:
        print(empty)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in ([name.upper() for name in columns], *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def make_plain(text: str) -> str:
    """Return text without what steers a terminal: devices and builds say what they like of themselves."""
    return "".join(one if one.isprintable() else "?" for one in text)


def describe_bytes(count: int) -> str:
    """Return a size for people: ``98.2 KiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def describe_value(metric: str, value: float) -> str:
    """Return a reading for people: bytes in their units, other numbers short."""
    return describe_bytes(int(value)) if metric.endswith("_bytes") else f"{value:g}"


def describe_fraction(value: float | None) -> str:
    """Return an accuracy for people: ``98.1 %``, or ``unknown``."""
    return "unknown" if value is None else f"{100 * value:.1f} %"


def describe_age(seconds: float) -> str:
    """Return a time span for people: ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    for limit, unit, divisor in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{max(seconds, 0) / divisor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
