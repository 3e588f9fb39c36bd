"""``report.html``: one page that holds all that it shows, and fetches nothing."""

from collections.abc import Sequence
from string import Template
from typing import Final

import msgspec

from fleet_cloud.factory.report.document import Report
from fleet_cloud.factory.report.figures import draw_tradeoff, draw_training
from fleet_cloud.factory.report.html import (
    Html,
    details,
    element,
    figure,
    figures,
    join,
    pairs,
    section,
    text,
)
from fleet_cloud.factory.report.style import STYLE
from fleet_cloud.factory.report.summary import describe_judged, get_quality, name_quality, show_summary
from fleet_cloud.factory.report.variant import show_variant
from fleet_cloud.factory.report.words import escape, say_value

_PAGE: Final = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>$style</style>
</head>
<body>
$body
</body>
</html>
"""
)


def render_page(report: Report) -> str:
    """Return the page; the same report gives the same page."""
    body = join([
        _show_head(report),
        show_summary(report),
        _show_tradeoffs(report),
        _show_training(report),
        *(show_variant(report, one, number) for number, one in enumerate(report.variants, 1)),
        _show_lineage(report),
        element("footer", text("Made by Fleet. Intervals are of 95 %; how each is made: docs/reports.md.")),
    ])  # fmt: skip
    return _PAGE.substitute(title=escape(f"{report.model}: report"), style=STYLE, body=body)


def _show_head(report: Report) -> Html:
    links = [
        Html(f'<a href="#variant-{number}">{text(one.name)}</a>')
        for number, one in enumerate(report.variants, 1)
    ]
    if report.lineage:
        links.append(Html('<a href="#lineage">lineage</a>'))
    return element(
        "header",
        join([
            element("h1", text(report.model)),
            element("p", text(describe_judged(report)), class_="soft"),
            element("nav", join(links)),
        ]),
    )  # fmt: skip


def _show_tradeoffs(report: Report) -> Html | None:
    quality, better = name_quality(report), "down" if report.task == "regression" else "up"
    size = draw_tradeoff(
        "size", report.variants, lambda one: one.evaluation.size.least_bytes / 1024,
        "bytes to a device, KiB", quality, get_quality,
    )  # fmt: skip
    latency = draw_tradeoff(
        "latency", report.variants,
        lambda one: None if one.evaluation.latency is None else one.evaluation.latency.p50_us,
        "median latency, µs", quality, get_quality,
    )  # fmt: skip
    shown = figures(
        figure(f"Further left is smaller, further {better} is better. Bars are 95 % intervals.", size),
        figure("Measured on the build machine, all variants in turns.", latency),
    )
    return None if shown is None else section("Trade-offs", shown)


def _show_training(report: Report) -> Html | None:
    """The float network, from which all variants are made."""
    step = report.training
    shown = (
        None if step is None else figure("Loss and validation score by epoch", draw_training("float", step))
    )
    return None if shown is None else section("The float network", figures(shown))


def _show_lineage(report: Report) -> Html | None:
    if not report.lineage:
        return None
    lineage = report.lineage
    names: Sequence[str] = [name for name, value in lineage.items() if isinstance(value, str | int | float)]
    libraries = lineage.get("libraries")
    rows: list[tuple[str, object]] = [(name.replace("_", " "), lineage[name]) for name in names]
    if report.data is not None and "data_sha256" not in names:
        rows.append(("data sha256", report.data.sha256))
    if isinstance(libraries, dict):
        rows += [(f"library {name}", version) for name, version in libraries.items()]
    if report.training is not None and report.training.seconds is not None:
        rows.append(("training", f"{report.training.seconds:.1f} s"))
    recipe = lineage.get("recipe")
    shown = None if recipe is None else element("pre", _show_document(recipe))
    return section("Lineage", pairs((name, say_value(value)) for name, value in rows),
                   details("Recipe", shown), id_="lineage")  # fmt: skip


def _show_document(value: object) -> Html:
    """Return a document as indented JSON, escaped line by line: lines stay lines."""
    written = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return Html(
        "\n".join(" " * (len(line) - len(line.lstrip())) + escape(line) for line in written.splitlines())
    )
