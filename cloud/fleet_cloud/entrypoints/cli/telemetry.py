"""``fleet telemetry DEVICE``: what a device measured, and whether anything is missing."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.numbers import MINUTES_MAX, check_finite
from fleet_cloud.entrypoints.cli.output import Format, Output, describe_value, print_json, print_table


def telemetry(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="Id of the device.")],
    metric: Annotated[
        str | None, typer.Option(help="Show this series, such as cpu_percent or latency_p50_us.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only this source: host or model.")] = None,
    minutes: Annotated[
        float, typer.Option(help="How far back.", min=0, max=MINUTES_MAX, callback=check_finite)
    ] = 60.0,
    limit: Annotated[int, typer.Option(help="At most so many readings.", min=1, max=10_000)] = 1000,
    output: Output = Format.TABLE,
) -> None:
    """Show the newest value of each metric of a device, or one series, and what was lost."""
    since_ms = int((time.time() - minutes * 60) * 1000)
    with get_connection(context).open() as client:
        series = client.series(device, metric=metric, source=source, since_ms=since_ms, limit=limit)
        totals = client.totals(device)
    if output is Format.JSON:
        print_json({"device": device, "series": series, "totals": totals})
        return
    if metric is None:
        rows = [
            (s.source, s.metric, len(s.points), describe_value(s.metric, s.points[-1].value))
            for s in series
            if s.points
        ]
        print_table(("source", "metric", "readings", "newest"), rows, empty="no readings in this time")
    else:
        points = [
            (describe_time(point.at_ms), describe_value(metric, point.value))
            for s in series
            for point in s.points
        ]
        print_table(("time", metric), points, empty=f"no readings of {metric} in this time")
    print(
        f"\nsamples {totals.samples}, events {totals.events}, lost {totals.lost}, "
        f"duplicates suppressed {totals.duplicates}, thinned by policy {totals.thinned}, "
        f"rejected {totals.rejected}, pending {totals.pending}"
    )


def describe_time(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{at_ms} ms"  # a device may say anything
