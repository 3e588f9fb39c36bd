"""All about one variant."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from fleet_cloud.factory.evaluation.results import Classification, ClassResult, Evaluation
from fleet_cloud.factory.report.document import PassReport, Report, VariantReport
from fleet_cloud.factory.report.figures import (
    draw_confusion,
    draw_sensitivity,
    draw_training,
    draw_weights,
    draws_confusion,
)
from fleet_cloud.factory.report.html import (
    Html,
    details,
    element,
    figure,
    figures,
    section,
    table,
    text,
)
from fleet_cloud.factory.report.words import (
    NOTHING,
    say_bytes,
    say_count,
    say_percent,
    say_time,
    say_value,
    shorten_path,
)

MISTAKES_SHOWN: Final = 20
CLASSES_SHOWN_MAX: Final = 100
"""Of more, those that are found least."""
TENSOR_CHARACTERS: Final = 70


def show_variant(report: Report, variant: VariantReport, number: int) -> Html:
    found, name = variant.evaluation, f"v{number}"
    classes = found.classification
    return section(
        variant.name,
        element("p", text(_introduce(variant)), class_="soft"),
        _show_passes(variant),
        *(shown for step in variant.passes for shown in _show_cut(step)),
        _show_tries(variant),
        _show_gates(variant),
        _show_figures(report, variant, name),
        *(() if classes is None else _show_confusion(classes)),
        details("Bytes in every encoding", _show_sizes(found)),
        details("Every weight of the file", _show_tensors(found)),
        id_=f"variant-{number}",
    )


def _introduce(variant: VariantReport) -> str:
    found = variant.evaluation
    said = [f"for {variant.target}" if variant.target else ""]
    if (latency := found.latency) is not None:
        spread = f"{latency.p10_us:.4g} to {latency.p90_us:.4g} µs"
        said.append(f"one inference {spread} (p10 to p90 of {latency.runs}, {latency.threads} thread)")
    others = [one for one in found.latencies if one is not latency]
    said += [f"{one.runtime} {say_time(one.p50_us)}" for one in others]
    if (classes := found.classification) is not None and classes.auc is not None:
        said.append(f"AUC {classes.auc:.4f}")
    if (against := found.against_float) is not None:
        apart = f"{against.difference_mean:.3g} on average, at most {against.difference_max:.3g}"
        differ = f"outputs differ from the float model's by {apart}"
        said.append(differ if against.difference_max else "outputs are the float model's")
    if found.weights.values:
        said.append(f"at most {found.weights.distinct_max} different values in a weight tensor")
    return " · ".join(one for one in said if one)


def _show_passes(variant: VariantReport) -> Html | None:
    rows = [
        (
            step.name,
            say_value(_find_settings(step)),
            _say_settled(step),
            NOTHING if step.validation_score is None else f"{step.validation_score:.4f}",
            _say_seconds(step),
        )
        for step in variant.passes
    ]
    return table(("pass", "settings", "settled on", "validation score", "time"), rows, numbers_from=3)


def _find_settings(step: PassReport) -> dict[str, Any]:
    """Return what was asked of a pass, without what says nothing: how to train, where it did not train."""
    said = {name: value for name, value in step.settings.items() if name != "tune" or step.history}
    return {
        name: {key: one for key, one in value.items() if one is not None}
        if isinstance(value, dict)
        else value
        for name, value in said.items()
        if value not in (None, [], "")
    }


def _say_settled(step: PassReport) -> str:
    changes = [
        f"{name} {say_count(one.before)} -> {say_count(one.after)}" for name, one in step.changes.items()
    ]
    return ", ".join([*([say_value(step.settled)] if step.settled else []), *changes]) or NOTHING


def _show_cut(step: PassReport) -> Iterator[Html | None]:
    """How wide layers were and are, and which stayed as they were, with the reason."""
    widths = [(", ".join(one.layers), one.before, one.after) for one in step.widths.values()]
    yield details(f"{step.name}: widths", table(("layers", "before", "after"), widths))
    count = len(step.left_alone)
    summary = f"{step.name}: {count} {'layer' if count == 1 else 'layers'} left alone"
    yield details(summary, table(("layer", "why"), step.left_alone.items(), numbers_from=2))


def _say_seconds(step: PassReport) -> str:
    if step.seconds is None:
        return NOTHING
    said = "< 0.1 s" if step.seconds < 0.05 else f"{step.seconds:.1f} s"
    return f"{said} (cached)" if step.cached else said


def _show_tries(variant: VariantReport) -> Html | None:
    rows = [(one.passes, "; ".join(one.failed)) for one in variant.tried]
    shown = table(("passes tried before", "why they were not enough"), rows, numbers_from=2)
    return None if shown is None else section("Backed off", shown, level=3)


def _say_gate(value: float | None) -> str:
    """Return a bound of any unit: bytes whole, fractions in four places."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 1000 else f"{value:.4g}"


def _show_gates(variant: VariantReport) -> Html | None:
    rows = [
        (
            one.name,
            _say_gate(one.bound),
            _say_gate(one.found),
            "held" if one.held else "not held",
        )
        for one in variant.gates
    ]
    shown = table(("gate (validation split)", "bound", "found", "result"), rows)
    return None if shown is None else section("Gates", shown, level=3)


def _show_figures(report: Report, variant: VariantReport, name: str) -> Html | None:
    found = variant.evaluation
    before = None if report.float_weights is None else report.float_weights.histogram
    trained = [
        figure(f"Training: {step.name}", draw_training(f"{name}-training{index}", step))
        for index, step in enumerate(variant.passes)
    ]
    suffering = [
        figure(
            f"Sensitivity of layers: {step.name}", draw_sensitivity(f"{name}-layers{index}", step.sensitivity)
        )
        for index, step in enumerate(variant.passes)
    ]
    classes = found.classification
    caption = "Confusion: numbers are samples, colours are shares of each class"
    confusion = None if classes is None else figure(caption, draw_confusion(f"{name}-classes", classes))
    weights = figure(
        "Weights" if before is None else "Weights before and after",
        draw_weights(f"{name}-weights", before, found.weights.histogram),
    )
    return figures(*trained, weights, *suffering, confusion)


def _show_confusion(found: Classification) -> Iterator[Html | None]:
    """Which classes are taken for which. Where there are too many for a matrix, the pairs stand open."""
    mistakes = _show_mistakes(found)
    if draws_confusion(found) or mistakes is None:
        yield details("Most common mistakes", mistakes)
    else:
        count = f"{len(found.classes):,}".replace(",", " ")
        yield section(f"Most common mistakes among {count} classes", mistakes, level=3)
    if len(found.classes) <= CLASSES_SHOWN_MAX:
        yield details("Each class", _show_classes(found.classes))
        return
    worst = sorted(found.classes, key=lambda one: 2.0 if one.recall is None else one.recall)
    summary = f"The {CLASSES_SHOWN_MAX} classes that are found least (all of them: report.json)"
    yield details(summary, _show_classes(worst[:CLASSES_SHOWN_MAX]))


def _show_classes(classes: Sequence[ClassResult]) -> Html | None:
    rows = [
        (
            one.label,
            one.samples,
            say_percent(one.precision),
            say_percent(one.recall),
            NOTHING if one.auc is None else f"{one.auc:.4f}",
        )
        for one in classes
    ]
    return table(("class", "samples", "precision", "recall", "AUC against the others"), rows)


def _show_mistakes(found: Classification) -> Html | None:
    rows = [
        (one.label, one.taken_for, one.samples, say_percent(one.share))
        for one in found.mistakes[:MISTAKES_SHOWN]
    ]
    return table(("is", "taken for", "samples", "of the class"), rows, numbers_from=2)


def _show_sizes(found: Evaluation) -> Html | None:
    file_bytes = found.size.file_bytes
    rows = [
        (
            name,
            f"{size:,}".replace(",", " "),
            say_bytes(size),
            f"{file_bytes / size:.2f}" if size else NOTHING,
        )
        for name, size in sorted(found.size.wire_bytes.items(), key=lambda one: (-one[1], one[0]))
    ]
    return table(("encoding", "bytes", "", "times smaller than the file"), rows)


def _show_tensors(found: Evaluation) -> Html | None:
    rows = [
        (
            shorten_path(one.name, TENSOR_CHARACTERS),
            one.dtype,
            " x ".join(map(str, one.shape)),
            one.values,
            say_percent(one.zeros / one.values if one.values else None),
            one.distinct,
        )
        for one in found.weights.tensors
    ]
    return table(("tensor", "type", "shape", "values", "zeros", "different values"), rows, numbers_from=2)
