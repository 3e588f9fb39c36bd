"""Pieces of a page. What is text is escaped here; what is HTML already has the type `Html`."""

from collections.abc import Iterable, Sequence
from typing import NewType

from fleet_cloud.factory.report.words import NOTHING, escape

Html = NewType("Html", str)


def text(value: object) -> Html:
    return Html(escape(str(value)) or NOTHING)


def join(parts: Iterable[Html | None]) -> Html:
    return Html("\n".join(part for part in parts if part))


def element(tag: str, inside: Html, **attributes: str) -> Html:
    """``attributes``: a trailing underscore is left out (``class_``)."""
    said = "".join(f' {name.rstrip("_")}="{escape(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{said}>{inside}</{tag}>")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers_from: int = 1) -> Html | None:
    """Return a table that scrolls by itself where it is too wide; columns from ``numbers_from`` on are
    aligned to the right. None without rows."""
    body = [_row("td", row, numbers_from) for row in rows]
    if not body:
        return None
    head = element("thead", _row("th", columns, numbers_from))
    return element("div", element("table", join([head, element("tbody", join(body))])), class_="scroll")


def pairs(rows: Iterable[tuple[str, object]]) -> Html | None:
    """Return names and their values; none without any."""
    body = [Html(f"<tr><th scope=row>{text(name)}</th><td>{text(value)}</td></tr>") for name, value in rows]
    return element("table", element("tbody", join(body)), class_="pairs") if body else None


def figure(caption: str, svg: str | None) -> Html | None:
    if svg is None:
        return None
    return element("figure", join([Html(svg), element("figcaption", text(caption))]))


def figures(*found: Html | None) -> Html | None:
    """Return figures side by side, as many as fit."""
    shown = [one for one in found if one]
    return element("div", join(shown), class_="figures") if shown else None


def details(summary: str, inside: Html | None) -> Html | None:
    """Return what opens at a click; none around nothing."""
    if not inside:
        return None
    return element("details", join([element("summary", text(summary)), inside]))


def section(title: str, *inside: Html | None, level: int = 2, id_: str = "") -> Html:
    heading = element(f"h{level}", text(title), **({"id": id_} if id_ else {}))
    return element("section", join([heading, *inside]))


def _row(cell: str, values: Sequence[object], numbers_from: int) -> Html:
    cells = [
        element(cell, _number(str(value)), class_="number")
        if index >= numbers_from
        else element(cell, text(value))
        for index, value in enumerate(values)
    ]
    return element("tr", join(cells))


def _number(value: str) -> Html:
    """Return a number with its interval in a line of its own."""
    number, bracket, interval = value.partition(" (")
    return (
        join([text(number), element("small", text(interval.removesuffix(")")))]) if bracket else text(value)
    )
