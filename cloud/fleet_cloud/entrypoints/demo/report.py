"""What the demo found, as one document."""

import msgspec

from fleet_cloud.client import Client
from fleet_cloud.client.views import SeriesView
from fleet_cloud.entrypoints.cli.models import get_model_bytes
from fleet_cloud.entrypoints.demo.attacks import Refusal

MIB = 1024 * 1024


class VariantReport(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes``: the model file; ``accuracy``: on the test split."""

    name: str
    bytes: int
    accuracy: float | None


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: str
    variants: list[VariantReport]


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """``state`` is that of the push; ``accuracy`` over all labelled samples that the device saw;
    ``rss_mib``: supervisor and worker together."""

    id: str
    state: str
    version: str
    variant: str
    runtime: str
    accuracy: float | None
    p50_ms: float | None
    rss_mib: float


class TelemetryReport(msgspec.Struct, frozen=True, kw_only=True):
    samples: int
    lost: int
    duplicates: int


class Seconds(msgspec.Struct, frozen=True, kw_only=True):
    build: float
    push: float


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    model: ModelReport
    devices: list[DeviceReport]
    telemetry: TelemetryReport
    refused: list[Refusal]
    seconds: Seconds


def report_model(client: Client, name: str, version: str) -> ModelReport:
    variants = client.version(name, version).variants
    return ModelReport(
        name=name,
        version=version,
        variants=[
            VariantReport(name=v.name, bytes=get_model_bytes(v), accuracy=v.accuracy) for v in variants
        ],
    )


def report_device(client: Client, device: str, state: str) -> DeviceReport:
    reported = client.device(device).reported
    active = reported.active if reported else None
    series = client.series(device, metric=None, source=None, since_ms=0, limit=10_000)
    labelled, correct = _sum(series, "labelled"), _sum(series, "correct")
    p50_us = _newest(series, "latency_p50_us")
    rss = (_newest(series, "rss_bytes") or 0.0) + (_newest(series, "agent_rss_bytes") or 0.0)
    return DeviceReport(
        id=device,
        state=state,
        version=active.version if active else "",
        variant=active.variant if active else "",
        runtime=active.runtime if active else "",
        accuracy=correct / labelled if labelled else None,
        p50_ms=None if p50_us is None else p50_us / 1000,
        rss_mib=rss / MIB,
    )


def count_labelled(client: Client, device: str) -> float:
    series = client.series(device, metric="labelled", source="model", since_ms=0, limit=10_000)
    return _sum(series, "labelled")


def report_telemetry(client: Client, devices: list[str]) -> TelemetryReport:
    totals = [client.totals(device) for device in devices]
    return TelemetryReport(
        samples=sum(t.samples for t in totals),
        lost=sum(t.lost for t in totals),
        duplicates=sum(t.duplicates for t in totals),
    )


def _sum(series: list[SeriesView], metric: str) -> float:
    return sum(point.value for s in series if s.metric == metric for point in s.points)


def _newest(series: list[SeriesView], metric: str) -> float | None:
    return next((s.points[-1].value for s in series if s.metric == metric and s.points), None)
