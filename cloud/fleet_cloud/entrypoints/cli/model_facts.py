"""What is known of a variant, from the report of its build where there is one, else from its contract."""

import base64
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleet_cloud.factory.evaluation.intervals import (
    estimate_drop,
    estimate_share,
    estimate_unpaired_drop,
)
from fleet_cloud.factory.evaluation.results import Estimate, Latency
from fleet_cloud.factory.report.document import PassReport, Report, VariantReport, read_report
from fleet_shared.errors import FleetError
from fleet_shared.names import parse_variant_name
from fleet_shared.version import ModelRef

if TYPE_CHECKING:
    from fleet_cloud.client import Client, VariantView, VersionView

REPORT: Final = "report.json"


class VariantFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``drop``: against the float model. ``memory_measured``: it is no estimate. ``latencies``: on all
    runtimes, the one of ``latency_p50_us`` too. ``right``, ``samples``: see `Evaluation`."""

    name: str
    file_bytes: int
    accuracy: Estimate | None = None
    rmse: Estimate | None = None
    drop: Estimate | None = None
    agreement: Estimate | None = None
    wire_bytes: int | None = None
    latency_p50_us: float | None = None
    latency_p10_us: float | None = None
    latency_p90_us: float | None = None
    latencies: tuple[Latency, ...] = ()
    memory_bytes: int | None = None
    memory_measured: bool = False
    parameters: int | None = None
    operations: int | None = None
    sparsity: float | None = None
    samples: str = ""
    sample_count: int = 0
    right: str = ""


def split_variant(text: str) -> tuple[ModelRef, str | None]:
    """Return what ``MODEL[:VERSION][/VARIANT]`` names."""
    reference, slash, variant = text.partition("/")
    return ModelRef.parse(reference), parse_variant_name(variant) if slash else None


def load_version(client: "Client", reference: ModelRef) -> "VersionView":
    """Return a version, the newest without a number."""
    if reference.version is None:
        return client.versions(reference.model)[0]
    return client.version(reference.model, str(reference.version))


def load_report(client: "Client", version: "VersionView") -> Report | None:
    """Return the report; none where there is none, or one that this version cannot read."""
    if REPORT not in version.artifacts:
        return None
    try:
        return read_report(client.read_artifact(version.model, version.version, REPORT))
    except FleetError as exc:
        if exc.code != "report.invalid":
            raise
        return None


def find_facts(variant: "VariantView", report: Report | None) -> VariantFacts:
    found = None if report is None else report.find(variant.name)
    return _of_contract(variant) if found is None else _of_report(found)


def find_passes(version: "VersionView", variant: str, report: Report | None) -> tuple[PassReport, ...]:
    """Return how a variant was made; the lineage tells it too, without a report."""
    found = None if report is None else report.find(variant)
    if found is not None:
        return found.passes
    variants = version.lineage.get("variants")
    told = variants.get(variant) if isinstance(variants, dict) else None
    return read_passes(told.get("passes")) if isinstance(told, dict) else ()


def read_passes(told: Any) -> tuple[PassReport, ...]:
    """Return passes as the lineage tells them; none where it tells them otherwise."""
    try:
        return tuple(msgspec.convert({**one, "name": one.get("pass", "")}, PassReport) for one in told or ())
    except (msgspec.ValidationError, TypeError, AttributeError):
        return ()


def compare_accuracy(first: VariantFacts, second: VariantFacts) -> tuple[Estimate | None, bool]:
    """Return how much top-1 is lost from the first to the second, and whether it was judged pair by pair, on
    the same samples."""
    if first.accuracy is None or second.accuracy is None:
        return None, False
    same = first.samples and first.samples == second.samples and first.sample_count == second.sample_count
    if same and first.right and second.right:
        a, b = (int.from_bytes(base64.b64decode(one.right)) for one in (first, second))
        return estimate_drop((a & ~b).bit_count(), (b & ~a).bit_count(), first.sample_count), True
    if first.accuracy.interval is None or second.accuracy.interval is None:
        return Estimate(value=first.accuracy.value - second.accuracy.value), False
    return estimate_unpaired_drop(first.accuracy, second.accuracy), False


def _of_contract(variant: "VariantView") -> VariantFacts:
    metrics = variant.contract.metrics
    return VariantFacts(
        name=variant.name,
        file_bytes=variant.size_bytes if variant.model_bytes is None else variant.model_bytes,
        accuracy=_estimate(metrics.accuracy, metrics.test_samples),
        latency_p50_us=metrics.latency_p50_us,
        memory_bytes=variant.contract.memory_bytes,
    )


def _estimate(accuracy: float | None, samples: int | None) -> Estimate | None:
    if accuracy is None or not samples:
        return None if accuracy is None else Estimate(value=accuracy)
    return estimate_share(round(accuracy * samples), samples)


def _of_report(found: VariantReport) -> VariantFacts:
    one = found.evaluation
    latency, against, memory = one.latency, one.against_float, one.memory
    return VariantFacts(
        name=one.variant,
        file_bytes=one.size.file_bytes,
        accuracy=None if one.classification is None else one.classification.top1,
        rmse=None if one.regression is None else one.regression.rmse,
        drop=None if against is None else against.drop,
        agreement=None if against is None else against.agreement,
        wire_bytes=one.size.least_bytes,
        latency_p50_us=None if latency is None else latency.p50_us,
        latency_p10_us=None if latency is None else latency.p10_us,
        latency_p90_us=None if latency is None else latency.p90_us,
        latencies=one.latencies,
        memory_bytes=memory.estimate_bytes if memory.peak_bytes is None else memory.peak_bytes,
        memory_measured=memory.peak_bytes is not None,
        parameters=one.parameters,
        operations=one.operations,
        sparsity=one.weights.sparsity,
        samples="" if one.samples is None else one.samples.sha256,
        sample_count=0 if one.samples is None else one.samples.count,
        right=one.right,
    )
