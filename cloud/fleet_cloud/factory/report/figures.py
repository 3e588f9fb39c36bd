"""The plots of a report."""

import math
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from fleet_cloud.factory.evaluation.results import Classification, Estimate, Histogram
from fleet_cloud.factory.report.document import PassReport, SensitivityReport, VariantReport
from fleet_cloud.factory.report.svg import INK, MARKERS, PALETTE, draw
from fleet_cloud.factory.report.words import clean, escape, shorten

LABEL_CHARACTERS: Final = 18
CLASSES_NAMED_MAX: Final = 30
"""Beyond, numbers and labels within the confusion matrix cannot be read: it is drawn without."""
CLASSES_DRAWN_MAX: Final = 60
LAYERS_SHOWN: Final = 20
LOGARITHMIC_FROM: Final = 4.0

Getter = Callable[[VariantReport], float | None]


def draw_tradeoff(
    name: str,
    variants: Sequence[VariantReport],
    cost: Getter,
    what: str,
    quality: str,
    get: Callable[[VariantReport], Estimate | None],
) -> str | None:
    """Return quality against a cost ; none unless a variant has both."""
    points = [
        (one.name, found, estimate)
        for one in variants
        if (found := cost(one)) and (estimate := get(one)) is not None
    ]
    if not points:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for (label, x, estimate), colour, marker in zip(points, cycle(PALETTE), cycle(MARKERS)):
            axes.errorbar(
                x, estimate.value, yerr=_reach(estimate), color=colour, marker=marker, markersize=7,
                capsize=3, elinewidth=1.1, linestyle="none", label=shorten(label, LABEL_CHARACTERS),
            )  # fmt: skip
        _scale_costs(axes, [x for _, x, _ in points])
        axes.set_xlabel(what)
        axes.set_ylabel(quality)
        figure.legend(loc="outside right center")

    return draw(name, escape(f"{quality} against {what}, a mark for each variant"), 5.3, 3.0, paint)


def draw_training(name: str, step: PassReport) -> str | None:
    """Return loss and validation score by epoch; none for a pass that did not train."""
    history = step.history
    if not history:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        epochs = [one.epoch for one in history]
        axes.plot(epochs, [one.loss for one in history], color=PALETTE[0], marker="o", markersize=3)
        axes.set_ylabel("training loss", color=PALETTE[0])
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        scored = [(one.epoch, one.score) for one in history if one.score is not None]
        if scored:
            other = axes.twinx()
            other.grid(visible=False)
            other.plot(*zip(*scored, strict=True), color=PALETTE[1], marker="s", markersize=3, linestyle="--")
            other.set_ylabel("validation score", color=PALETTE[1])

    return draw(name, escape(f"loss and validation score of {step.name} by epoch"), 4.2, 2.4, paint)


def draw_weights(name: str, before: Histogram | None, after: Histogram | None) -> str | None:
    """Return the weights of the float model and of a variant over each other; none without any."""
    shown = [(before, "float model", PALETTE[5], True), (after, "this variant", PALETTE[1], False)]
    if after is None:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for histogram, label, colour, filled in shown:
            if histogram is not None:
                edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
                total = sum(histogram.counts) + histogram.zeros
                said = f"{label}, zeros {100 * histogram.zeros / total:.0f} %"
                axes.stairs(
                    np.array(histogram.counts) / total, edges, fill=filled, color=colour, linewidth=1.5,
                    alpha=0.55 if filled else 1, label=said,
                )  # fmt: skip
        axes.set_xlabel("weight (zeros left out)")
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        axes.set_ylabel("share of all weights")
        figure.legend(loc="outside upper left", ncols=2)

    return draw(name, escape("histogram of the weights before and after"), 4.2, 2.4, paint)


def draws_confusion(found: Classification) -> bool:
    return 0 < len(found.confusion) <= CLASSES_DRAWN_MAX


def draw_confusion(name: str, found: Classification) -> str | None:
    """Return the confusion matrix, each row as shares of its class; none for too many classes to be seen."""
    if not draws_confusion(found):
        return None
    counts = np.array(found.confusion)
    labels = [shorten(clean(one.label), LABEL_CHARACTERS) for one in found.classes]
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    small = len(counts) <= CLASSES_NAMED_MAX

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(visible=False)
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column]:
                colour = PALETTE[0] if row == column else PALETTE[1]
                axes.add_patch(_cell(row, column, colour, 0.12 + 0.78 * float(share)))
                if small:
                    ink = "#ffffff" if share > 0.55 else INK
                    axes.text(
                        column, row, str(counts[row, column]), ha="center", va="center", color=ink, fontsize=8
                    )
        axes.set_xlim(-0.5, len(counts) - 0.5)
        axes.set_ylim(len(counts) - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.set_xlabel("taken for")
        axes.set_ylabel("is")
        if small:
            turned = max(map(len, labels)) > 3
            axes.set_xticks(
                range(len(labels)), labels, rotation=45 if turned else 0, ha="right" if turned else "center"
            )
            axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(length=0)

    size = min(7.5, 1.5 + 0.3 * len(counts)) if small else 6.0
    return draw(name, escape("confusion matrix: what each class is taken for"), size, size, paint)


def draw_sensitivity(name: str, layers: Sequence[SensitivityReport]) -> str | None:
    """Return a bar for each layer, the most sensitive on top; none without any."""
    shown = sorted(layers, key=lambda one: -one.noise)[:LAYERS_SHOWN]
    if not shown:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        names = [shorten(clean(one.layer), 30) for one in shown]
        axes.barh(range(len(shown)), [one.noise for one in shown], color=PALETTE[2], height=0.7)
        axes.set_yticks(range(len(shown)), names)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("change of the outputs, share of their variance")
        axes.tick_params(axis="y", length=0)

    height = 0.8 + 0.24 * len(shown)
    return draw(name, escape("how much each layer suffers, most sensitive first"), 5.2, height, paint)


def _cell(row: int, column: int, colour: str, alpha: float) -> Any:
    return Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, facecolor=colour, alpha=alpha, edgecolor="none")


def _reach(estimate: Estimate) -> list[list[float]] | None:
    found = estimate.interval
    if found is None:
        return None
    return [[max(0.0, estimate.value - found.low)], [max(0.0, found.high - estimate.value)]]


def _scale_costs(axes: Axes, costs: Sequence[float]) -> None:
    """A logarithmic axis, where costs differ enough, with ticks where people count: 1, 2, 5, 10."""
    if max(costs) / min(costs) < LOGARITHMIC_FROM:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        axes.margins(x=0.2)
        return
    low, high = min(costs) / 1.3, max(costs) * 1.3
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    steps = (1, 2, 5) if high / low < 100 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.minorticks_off()


def _percent(value: float, _position: int) -> str:
    return f"{100 * value:g} %"
