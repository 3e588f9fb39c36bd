"""The table of all variants, and the sentence that says what they were judged on."""

from typing import Final

from fleet_cloud.factory.evaluation.results import Estimate
from fleet_cloud.factory.report.document import Report, VariantReport
from fleet_cloud.factory.report.html import Html, element, join, section, table, text
from fleet_cloud.factory.report.words import (
    NOTHING,
    say_bytes,
    say_count,
    say_number,
    say_percent,
    say_points,
    say_share,
    say_time,
)

_CLASSIFICATION: Final = ("top-1", "drop, points", "agreement")
_REGRESSION: Final = ("RMSE", "added", "MAE", "R²")
_COSTS: Final = ("file", "to a device", "latency", "memory", "parameters", "operations", "zeros")
_NOTES: Final = (
    "Drop: how much is lost against the float model on the same samples, with a paired interval; what has 0 "
    "in its interval may be chance. To a device: the file in its smallest encoding. Memory: what loading and "
    "running the file adds to a process. Operations: multiply-accumulates of one inference."
)


def name_quality(report: Report) -> str:
    return "RMSE" if report.task == "regression" else "top-1 accuracy"


def get_quality(variant: VariantReport) -> Estimate | None:
    found = variant.evaluation
    if found.regression is not None:
        return found.regression.rmse
    return None if found.classification is None else found.classification.top1


def describe_judged(report: Report) -> str:
    """Return task, data, and on what the numbers below are."""
    parts = [report.task] if report.task else []
    if report.labels:
        parts.append(f"{len(report.labels)} classes")
    if (data := report.data) is not None:
        parts.append(f"{data.kind}: {data.train} train, {data.validation} validation, {data.test} test")
    samples = next((one.evaluation.samples for one in report.variants if one.evaluation.samples), None)
    parts.append(
        "no samples: accuracy is unknown"
        if samples is None
        else f"judged on {samples.count} samples ({samples.split})"
    )
    return " · ".join(parts)


def show_summary(report: Report) -> Html:
    regression = report.task == "regression"
    quality = _REGRESSION if regression else _CLASSIFICATION
    rows = [
        [one.name, *_show_quality(one, regression=regression), *_show_costs(one)] for one in report.variants
    ]
    notes = element("p", text(_NOTES), class_="soft")
    return section("Variants", join([table(("variant", *quality, *_COSTS), rows), notes]))


def _show_quality(one: VariantReport, *, regression: bool) -> list[str]:
    found, against = one.evaluation, one.evaluation.against_float
    drop = None if against is None else against.drop
    if regression:
        errors = found.regression
        if errors is None:
            return [NOTHING] * 4
        r2 = NOTHING if errors.r2 is None else f"{errors.r2:.4f}"
        return [say_number(errors.rmse), say_number(drop), say_number(errors.mae), r2]
    classes = found.classification
    return [
        "unknown" if classes is None else say_share(classes.top1),
        say_points(drop),
        say_share(None if against is None else against.agreement),
    ]


def _show_costs(one: VariantReport) -> list[str]:
    found, latency = one.evaluation, one.evaluation.latency
    return [
        say_bytes(found.size.file_bytes),
        say_bytes(found.size.least_bytes),
        say_time(None if latency is None else latency.p50_us),
        say_bytes(
            found.memory.estimate_bytes if found.memory.peak_bytes is None else found.memory.peak_bytes
        ),
        say_count(found.parameters),
        say_count(found.operations),
        say_percent(found.weights.sparsity, 0),
    ]
