"""``fleet model compare``: two versions, or two variants, side by side."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.model_facts import (
    VariantFacts,
    compare_accuracy,
    find_facts,
    load_report,
    load_version,
    split_variant,
)
from fleet_cloud.entrypoints.cli.model_words import say_accuracy, say_bytes, say_count, say_drop, say_time
from fleet_cloud.entrypoints.cli.output import Format, Output, print_json, print_table
from fleet_cloud.errors import NotFound
from fleet_cloud.factory.evaluation.intervals import is_significant
from fleet_cloud.factory.evaluation.results import LITERT, Estimate, Interval

if TYPE_CHECKING:
    from fleet_cloud.client import Client


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """``version``: ``digits:1.4.0``."""

    version: str
    variants: list[VariantFacts]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of two variants. ``difference``: second minus first, in the unit of both (a share for
    accuracies); ``significant``: whether it is more than chance, none where nobody can tell."""

    measure: str
    first: str | None
    second: str | None
    difference: float | None = None
    said: str = ""
    significant: bool | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """``note``: how accuracies were compared."""

    first: str
    second: str
    lines: list[Line]
    note: str = ""


def compare(
    context: typer.Context,
    first: Annotated[str, typer.Argument(metavar="MODEL[:VERSION][/VARIANT]")],
    second: Annotated[str, typer.Argument(metavar="MODEL[:VERSION][/VARIANT]")],
    output: Output = Format.TABLE,
) -> None:
    """Compare two variants; of two versions, those of the same name."""
    with get_connection(context).open() as client:
        sides = [_load_side(client, text) for text in (first, second)]
    found = compare_sides(*sides)
    if output is Format.JSON:
        print_json(found)
        return
    for one in found:
        print_comparison(one)


def compare_sides(first: Side, second: Side) -> list[Comparison]:
    """Return a comparison for each pair; raise `NotFound` (``model.compare``) when no names are the same."""
    if len(first.variants) == len(second.variants) == 1:
        pairs = [(first.variants[0], second.variants[0])]
    elif len(first.variants) == 1:
        pairs = [(first.variants[0], one) for one in second.variants]
    elif len(second.variants) == 1:
        pairs = [(one, second.variants[0]) for one in first.variants]
    else:
        names = {one.name: one for one in second.variants}
        pairs = [(one, names[one.name]) for one in first.variants if one.name in names]
    if not pairs:
        raise NotFound(
            f"{first.version} and {second.version} have no variant of the same name",
            hint=f"name one of each: {first.version}/{first.variants[0].name} {second.version}/VARIANT",
            code="model.compare",
        )
    return [
        Comparison(
            first=f"{first.version}/{a.name}",
            second=f"{second.version}/{b.name}",
            lines=list(compare_facts(a, b, together=first.version == second.version)),
            note=_explain(a, b),
        )
        for a, b in pairs
    ]


def compare_facts(a: VariantFacts, b: VariantFacts, *, together: bool) -> Iterator[Line]:
    """Yield what is known of both. ``together``: they were measured in turns, in the same build."""
    yield _compare_accuracies(a, b)
    yield Line(measure="drop from float", first=_say_drop(a), second=_say_drop(b))
    yield _compare_numbers("file", a.file_bytes, b.file_bytes, say_bytes)
    yield _compare_numbers("to a device", a.wire_bytes, b.wire_bytes, say_bytes)
    yield _compare_latencies(a, b, together=together)
    yield from _compare_peers(a, b)
    yield _compare_numbers("memory", a.memory_bytes, b.memory_bytes, say_bytes)
    yield _compare_numbers("parameters", a.parameters, b.parameters, say_count)
    yield _compare_numbers("operations", a.operations, b.operations, say_count)
    yield _compare_numbers("zeros", a.sparsity, b.sparsity, lambda share: f"{100 * share:.0f} %")


def print_comparison(found: Comparison) -> None:
    """Print it, without what is unknown on both sides."""
    rows = [
        (one.measure, one.first, one.second, one.said)
        for one in found.lines
        if one.first is not None or one.second is not None
    ]
    print(f"{found.first}  against  {found.second}")
    print_table(("", "first", "second", "difference"), rows, empty="nothing is known of either")
    print(f"{found.note}\n" if found.note else "")


def _load_side(client: "Client", text: str) -> Side:
    reference, variant = split_variant(text)
    version = load_version(client, reference)
    report, name = load_report(client, version), f"{version.model}:{version.version}"
    wanted = [one for one in version.variants if variant in (None, one.name)]
    if not wanted:
        raise NotFound(
            f"{name} has no variant {variant!r}",
            hint=f"it has {', '.join(one.name for one in version.variants)}",
            code="model.variant.unknown",
        )
    return Side(version=name, variants=[find_facts(one, report) for one in wanted])


def _compare_accuracies(a: VariantFacts, b: VariantFacts) -> Line:
    """An accuracy against an accuracy, an error against an error; else nothing can be said."""
    line = Line(
        measure="accuracy", first=say_accuracy(a.accuracy, a.rmse), second=say_accuracy(b.accuracy, b.rmse)
    )
    if a.rmse is not None and b.rmse is not None:
        difference = b.rmse.value - a.rmse.value
        return msgspec.structs.replace(line, difference=difference, said=f"{difference:+.3g}")
    lost, _ = compare_accuracy(a, b)
    if lost is None:
        return line
    won, significant = _turn(lost), is_significant(lost) if lost.interval is not None else None
    judged = ", may be chance" if significant is False else ""
    return msgspec.structs.replace(
        line, difference=won.value, said=f"{say_drop(won)}{judged}", significant=significant
    )


def _turn(lost: Estimate) -> Estimate:
    """Return what is lost as what is won."""
    found = lost.interval
    interval = None if found is None else Interval(low=-found.high, high=-found.low)
    return Estimate(value=-lost.value, interval=interval)


def _explain(a: VariantFacts, b: VariantFacts) -> str:
    """Return how the difference of the accuracies was found."""
    lost, paired = compare_accuracy(a, b)
    if lost is None:
        return ""
    if paired:
        return f"accuracies differ by points, pair by pair on the same {a.sample_count} samples"
    return "accuracies differ by points, each on samples of its own"


def _compare_latencies(a: VariantFacts, b: VariantFacts, *, together: bool) -> Line:
    first, second = a.latency_p50_us, b.latency_p50_us
    line = _compare_numbers("latency", first, second, say_time)
    if line.difference is None:
        return line
    apart = _are_apart(a, b)
    if not together:
        return msgspec.structs.replace(line, said=f"{line.said}, measured apart")
    judged = {True: "", False: ", within the spread", None: ""}[apart]
    return msgspec.structs.replace(line, said=f"{line.said}{judged}", significant=apart)


def _compare_peers(a: VariantFacts, b: VariantFacts) -> Iterator[Line]:
    """Other runtimes are timed in a process for each file, never in turns."""
    first, second = ({one.runtime: one.p50_us for one in facts.latencies} for facts in (a, b))
    for runtime in sorted({*first, *second} - {LITERT}):
        line = _compare_numbers(f"latency, {runtime}", first.get(runtime), second.get(runtime), say_time)
        yield (
            line
            if line.difference is None
            else msgspec.structs.replace(line, said=f"{line.said}, measured apart")
        )


def _are_apart(a: VariantFacts, b: VariantFacts) -> bool | None:
    """Tell whether the middle 80 % of both do not overlap; none where only a median is known."""
    if a.latency_p10_us is None or b.latency_p10_us is None:
        return None
    if a.latency_p90_us is None or b.latency_p90_us is None:
        return None
    return a.latency_p90_us < b.latency_p10_us or b.latency_p90_us < a.latency_p10_us


def _compare_numbers(
    measure: str, first: float | None, second: float | None, say: Callable[[Any], str | None]
) -> Line:
    line = Line(
        measure=measure,
        first=None if first is None else say(first),
        second=None if second is None else say(second),
    )
    if first is None or second is None:
        return line
    difference = second - first
    relative = f"{100 * difference / first:+.1f} %" if first else ""
    said = relative if difference else "the same"
    return msgspec.structs.replace(line, difference=difference, said=said)


def _say_drop(facts: VariantFacts) -> str | None:
    return say_drop(facts.drop, regression=facts.rmse is not None)
