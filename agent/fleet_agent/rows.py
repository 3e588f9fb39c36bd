"""Telemetry rows from what happened on the device. ``seq`` is given by the outbox."""

from collections import Counter
from typing import Final

from fleet_agent.telemetry.clock import Stamp
from fleet_agent.update.record import UpdateRecord
from fleet_agent.worker.protocol import Stats
from fleet_shared.limits import CLASS_NAME_BYTES, CLASSES_PER_SAMPLE, FACT_BYTES
from fleet_shared.messages.reported import Failure, Running
from fleet_shared.messages.telemetry import Detail, Event, Sample, Source
from fleet_shared.names import AssignmentId
from fleet_shared.wire import clip

OTHER: Final = "other"
"""The classes of a sample that are not among its most frequent ones, summed."""


def host_row(stamp: Stamp, values: dict[str, float]) -> Sample:
    return Sample(
        seq=0,
        boot_id=stamp.boot_id,
        boot_ms=stamp.boot_ms,
        wall_ms=stamp.wall_ms,
        clock=stamp.clock,
        source=Source.HOST,
        values=values,
    )


def model_row(stamp: Stamp, running: Running, stats: Stats) -> Sample:
    """One window of a model; ``accuracy`` only where the source had labels."""
    optional = {
        "latency_p50_us": stats.latency_p50_us,
        "latency_p90_us": stats.latency_p90_us,
        "latency_p99_us": stats.latency_p99_us,
        "accuracy": stats.correct / stats.labelled if stats.labelled else None,
    }
    counted = {
        "requests": float(stats.requests),
        "errors": float(stats.errors),
        "labelled": float(stats.labelled),
        "correct": float(stats.correct),
        "rss_bytes": float(stats.rss_bytes),
    }
    return Sample(
        seq=0,
        boot_id=stamp.boot_id,
        boot_ms=stamp.boot_ms,
        wall_ms=stamp.wall_ms,
        clock=stamp.clock,
        source=Source.MODEL,
        values=counted | {name: value for name, value in optional.items() if value is not None},
        classes=bound_classes(stats.classes),
        model=running.model,
        version=running.version,
        variant=running.variant,
        runtime=running.runtime,
        window_ms=stats.window_ms,
    )


def bound_classes(counts: dict[str, int]) -> dict[str, int]:
    """Return ``counts`` as a row can hold it: the most frequent classes, names clipped, the rest as
    `OTHER`. No count is lost."""
    named: Counter[str] = Counter()
    for name, count in counts.items():
        named[clip(name, CLASS_NAME_BYTES)] += count
    if len(named) <= CLASSES_PER_SAMPLE:
        return dict(named)
    others = named.pop(OTHER, 0)
    kept = dict(named.most_common(CLASSES_PER_SAMPLE - 1))
    return kept | {OTHER: others + sum(named.values()) - sum(kept.values())}


def event_row(
    stamp: Stamp,
    name: str,
    *,
    failure: Failure | None = None,
    assignment: AssignmentId | None = None,
    detail: Detail | None = None,
) -> Event:
    return Event(
        seq=0,
        boot_id=stamp.boot_id,
        boot_ms=stamp.boot_ms,
        wall_ms=stamp.wall_ms,
        clock=stamp.clock,
        name=name,
        failure=failure,
        assignment=assignment,
        detail=detail or {},
    )


def outcome_row(stamp: Stamp, record: UpdateRecord) -> Event:
    """The one outcome of an assignment, with its evidence. It always fits a row: one that could never be
    stored would hold up every later assignment."""
    detail: Detail = {
        "model": record.entry.model,
        "version": record.entry.version,
        "variant": record.target.variant,
        "runtime": record.target.runtime,
        "seconds": (record.saved_ms - record.started_ms) / 1000,
        "resumes": record.resumes,
        **record.evidence,
    }
    return event_row(
        stamp,
        f"update.{record.state.value}",
        failure=record.failure,
        assignment=record.entry.assignment,
        detail={
            name: clip(value, FACT_BYTES) if isinstance(value, str) else value
            for name, value in detail.items()
        },
    )
