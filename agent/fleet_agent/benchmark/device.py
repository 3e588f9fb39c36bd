"""Benchmarks of this device: within an update, and by hand."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fleet_agent.benchmark.kept import KeptTable, KeptTables, describe_conditions
from fleet_agent.benchmark.measuring import Measuring
from fleet_agent.benchmark.rows import BenchmarkRow, find_fastest, limit_threads, plan_rows
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.reported import Failure, Running, RuntimeFact
from fleet_shared.messages.telemetry import Detail
from fleet_shared.names import AssignmentId

ROW_EVENT = "benchmark.row"


@dataclass(frozen=True)
class RowMeasured:
    """One row of a table, for the outbox."""

    assignment: AssignmentId
    detail: Detail
    failure: Failure | None


@dataclass(frozen=True)
class BenchmarkTerms:
    """``total_s``: how long all rows may take; ``memory_bytes_max``: what the model's worker may have."""

    aborted: threading.Event
    total_s: float = math.inf
    memory_bytes_max: int | None = None


@dataclass(frozen=True)
class Benchmarks:
    """``cpus_max``: on how many of its processors the worker will run (0: on all). ``report`` may be
    called from any thread."""

    runtimes: tuple[RuntimeFact, ...]
    cpu_count: int
    measuring: Callable[[Path], Measuring]
    kept: KeptTables
    report: Callable[[RowMeasured], None]
    cpus_max: int = 0

    def take(self, slot: Path, target: Running, manifest: bytes, terms: BenchmarkTerms) -> Detail:
        """Measure an installed variant, unless it was under the same conditions, and report the table;
        return the evidence: which row is the fastest that passes. Raises `TransferError`
        (``transfer.aborted``)."""
        threads = limit_threads(self.cpu_count, self.cpus_max)
        planned = plan_rows(parse_manifest(manifest).contract, self.runtimes, threads)
        conditions = describe_conditions(planned)
        rows: Sequence[BenchmarkRow] | None = self.kept.find(target.manifest, conditions)
        if rows is None:
            measuring = replace(self.measuring(slot), aborted=terms.aborted, total_s=terms.total_s)
            rows = measuring.fill_in(planned)
            if all(row.is_lasting for row in rows):
                self.kept.keep(KeptTable(manifest=target.manifest, conditions=conditions, rows=tuple(rows)))
        fastest = find_fastest(rows, terms.memory_bytes_max)
        for row in rows:
            self.report(RowMeasured(target.assignment, describe_row(row, target, fastest), row.failure))
        return describe_choice(rows, fastest)


def describe_row(row: BenchmarkRow, target: Running, fastest: BenchmarkRow | None) -> Detail:
    detail: Detail = {
        "manifest": target.manifest,
        "model": target.model,
        "version": target.version,
        "variant": target.variant,
        "runtime": row.runtime,
        "runtime_version": row.version,
        "threads": row.threads,
        "passed": row.passed,
        "fastest": row is fastest,
    }
    if row.measured is not None:
        detail |= {
            "runs": row.measured.runs,
            "latency_p50_us": round(row.measured.p50_us, 1),
            "latency_p99_us": round(row.measured.p99_us, 1),
            "load_ms": round(row.measured.load_ms, 1),
            "peak_bytes": row.measured.peak_bytes,
            "growth_bytes": row.measured.growth_bytes,
            "max_difference": row.measured.self_test.max_difference,
            "tolerance": row.measured.self_test.tolerance,
        }
    return detail


def describe_choice(rows: Sequence[BenchmarkRow], fastest: BenchmarkRow | None) -> Detail:
    """Return the evidence; without a row that passes there is no choice, and the self-test will say why."""
    found: Detail = {"benchmark_rows": len(rows), "benchmark_passed": sum(row.passed for row in rows)}
    if fastest is not None and fastest.measured is not None:
        found |= {
            "benchmark_runtime": fastest.runtime,
            "benchmark_threads": fastest.threads,
            "benchmark_p50_us": round(fastest.measured.p50_us, 1),
        }
    return found
