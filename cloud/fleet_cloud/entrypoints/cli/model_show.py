"""``fleet model show``: a version with what its report says, as far as there is one."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.model_facts import find_facts, find_passes, load_report
from fleet_cloud.entrypoints.cli.model_words import (
    say_accuracy,
    say_bytes,
    say_count,
    say_drop,
    say_time,
    say_value,
    wrap,
)
from fleet_cloud.entrypoints.cli.output import Format, Output, make_plain, print_json, print_table
from fleet_shared.names import digest_of

if TYPE_CHECKING:
    from fleet_cloud.client import VariantView, VersionView
    from fleet_cloud.factory.evaluation.results import Latency
    from fleet_cloud.factory.report.document import ChangeReport, PassReport, Report
    from fleet_shared.manifest import Preprocessing

WIDTH: Final = 100
INDENT: Final = " " * 17


def show(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]")],
    output: Output = Format.TABLE,
) -> None:
    """Show the versions of a model, or one version: its variants, how they were made, and of what."""
    model, _, number = reference.partition(":")
    with get_connection(context).open() as client:
        versions = [client.version(model, number)] if number else client.versions(model)
        if output is Format.JSON:
            print_json(versions[0] if number else versions)
            return
        if number:
            print_whole(versions[0], load_report(client, versions[0]))
            return
        for version in versions:
            print_variants(version, load_report(client, version))


def print_whole(version: "VersionView", report: "Report | None") -> None:
    """Print all that is known of one version."""
    print_variants(version, report)
    for variant in version.variants:
        _print_variant(version, variant, report)
    _print_lineage(version)


def print_variants(version: "VersionView", report: "Report | None") -> None:
    """Print one line for each variant."""
    waits = "" if version.released else " (waits to be signed: fleet trust status)"
    print(f"{version.model}:{version.version}{waits}")
    facts = [find_facts(variant, report) for variant in version.variants]
    rows = [
        (
            f"  {one.name}",
            say_accuracy(one.accuracy, one.rmse),
            say_drop(one.drop, regression=one.rmse is not None),
            say_bytes(one.file_bytes),
            say_bytes(one.wire_bytes),
            say_time(one.latency_p50_us),
            say_bytes(one.memory_bytes),
        )
        for one in facts
    ]
    columns = ("  variant", "accuracy", "drop", "file", "to device", "latency", "memory")
    print_table(columns, rows, empty="  no variants")
    print()


def _print_variant(version: "VersionView", variant: "VariantView", report: "Report | None") -> None:
    contract, facts = variant.contract, find_facts(variant, report)
    print(f"{variant.name}  {variant.manifest[:12]}")
    passes = find_passes(version, variant.name, report)
    _print_line("made by", [_say_pass(step) for step in passes])
    for step in passes:
        _print_cut(step)
    found = None if report is None else report.find(variant.name)
    gates = () if found is None else found.gates
    _print_line("gates", [f"{one.name} {one.bound:g}: {'held' if one.held else 'not held'}" for one in gates])
    _print_line("backed off", [one.passes for one in (() if found is None else found.tried)])
    _print_line("agreement", [say_accuracy(facts.agreement)] if facts.agreement is not None else [])
    _print_line("latency", [_say_latency(one) for one in facts.latencies])
    size = (("parameters", say_count(facts.parameters)), ("operations", say_count(facts.operations)))
    said = [f"{value} {name}" for name, value in size if value is not None]
    zeros = [] if facts.sparsity is None else [f"{100 * facts.sparsity:.0f} % zeros"]
    _print_line("weights", said + zeros)
    _print_line("runtimes", sorted(contract.runtimes))
    for direction, tensors in (("in", contract.inputs), ("out", contract.outputs)):
        _print_line(direction, [f"{one.name} {one.dtype} {list(one.shape)}" for one in tensors])
    _print_line("ops", [f"{op.name}:{op.version} x{op.count}" for op in contract.ops])
    _print_line("preprocessing", [describe_preprocessing(contract.preprocessing)])
    golden = contract.golden
    _print_line("golden", [f"{golden.samples} samples", f"tolerance {golden.tolerance:.3g}"])
    print()


def _print_lineage(version: "VersionView") -> None:
    """Print what the version was made of, and what is kept with it."""
    lineage = version.lineage
    if lineage:
        print("lineage")
    recipe = lineage.get("recipe")
    if isinstance(recipe, dict):
        digest = digest_of(msgspec.json.encode(recipe, order="sorted"))
        _print_line("recipe", [f"sha256 {digest[:16]}"])
    for name, key in (("data", "data_sha256"), ("code", "code_sha256")):
        if key in lineage:
            _print_line(name, [f"sha256 {str(lineage[key])[:16]}"])
    libraries = lineage.get("libraries")
    if isinstance(libraries, dict):
        _print_line("libraries", [f"{name} {number}" for name, number in libraries.items()])
    _print_line("imported", [str(lineage["imported"])] if "imported" in lineage else [])
    _print_line("artifacts", list(version.artifacts))
    if "report.html" in version.artifacts:
        print(f"\nall of it, with plots: fleet model report {version.model}:{version.version}")


def _print_line(name: str, words: list[str]) -> None:
    if words:
        print(f"  {name:<13}  {wrap([make_plain(word) for word in words], WIDTH - len(INDENT), INDENT)}")


def _say_latency(one: "Latency") -> str:
    """Return ``litert 41.2 us (40.1 to 44)``: the median and the middle 80 %."""
    between = f"{say_time(one.p10_us)} to {say_time(one.p90_us)}"
    return f"{one.runtime} {say_time(one.p50_us)} ({between})"


def _say_pass(step: "PassReport") -> str:
    """Return a pass with its settings, and what it came to where that is something else."""
    settings = _say_pairs(step.settings)
    settled = _say_pairs({name: value for name, value in step.settled.items() if name not in step.settings})
    return f"{step.name}{f' ({settings})' if settings else ''}{f' -> {settled}' if settled else ''}"


def _print_cut(step: "PassReport") -> None:
    """Print what a pass made less of, and what it left as it was."""
    changes = [f"{name} {_say_change(one)}" for name, one in step.changes.items()]
    _print_line("cut", changes)
    changed = {name: one for name, one in step.widths.items() if one.before != one.after}
    _print_line("widths", [f"{name} {_say_change(one)}" for name, one in changed.items()])
    _print_line("left alone", [f"{layer} ({why})" for layer, why in step.left_alone.items()])


def _say_change(change: "ChangeReport") -> str:
    return f"{say_count(change.before)} -> {say_count(change.after)}"


def _say_pairs(values: dict[str, Any]) -> str:
    plain = {
        name: value
        for name, value in values.items()
        if name != "pass" and value not in (None, [], "") and not isinstance(value, dict)
    }
    return " ".join(f"{name}={say_value(value)}" for name, value in plain.items())


def describe_preprocessing(preprocessing: "Preprocessing") -> str:
    """Return what is said of it, in the words of ``fleet model import``."""
    rules = preprocessing.rules
    said = {
        "colour": preprocessing.colour or "",
        "scale": f"{preprocessing.scale:.6g}",
        "offset": f"{preprocessing.offset:.6g}",
        "mean": ",".join(f"{value:.6g}" for value in rules.mean),
        "std": ",".join(f"{value:.6g}" for value in rules.std),
    }
    if preprocessing.colour:
        said |= {"resize": rules.resize.value, "fit": rules.fit.value, "layout": rules.layout.value}
    return " ".join(f"{name}={value}" for name, value in said.items() if value)
