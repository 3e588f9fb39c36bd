"""The table of a benchmark, and what follows from it. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleet_agent.worker.protocol import Measured
from fleet_shared.compatibility import find_incompatibilities
from fleet_shared.manifest import Contract
from fleet_shared.messages.reported import Failure, RuntimeFact

THREADS: Final = (1, 2, 4)
"""What is tried, as far as the device has so many processors."""
RUNS: Final = 50
WARMUPS: Final = 5


class BenchmarkRow(msgspec.Struct, frozen=True, kw_only=True):
    """One runtime at one number of threads: measured, or why not."""

    runtime: str
    version: str
    threads: int
    measured: Measured | None = None
    failure: Failure | None = None

    @property
    def is_lasting(self) -> bool:
        """Whether measuring again would give the same; not where something was wanting at that moment."""
        return self.failure is None or self.failure.code != "benchmark.interrupted"

    @property
    def passed(self) -> bool:
        """Whether it computed, and the golden vectors came out."""
        if self.measured is None:
            return False
        test = self.measured.self_test
        return test.max_difference <= test.tolerance and test.class_flips == 0

    @property
    def outcome(self) -> str:
        if self.failure is not None:
            return f"failed: {self.failure.message}"
        if self.measured is None:
            return "not measured"
        test = self.measured.self_test
        if self.passed:
            return f"passed, differs by {test.max_difference:.3g} of {test.tolerance:.3g}"
        flips = f", {test.class_flips} of {test.samples} classes change" if test.class_flips else ""
        return f"wrong: differs by {test.max_difference:.3g}, allowed {test.tolerance:.3g}{flips}"


def plan_rows(
    contract: Contract, runtimes: Sequence[RuntimeFact], threads: Sequence[int]
) -> list[BenchmarkRow]:
    """Return the rows to fill in. A runtime that the contract speaks against has its reason already."""
    planned = []
    for runtime in runtimes:
        reasons = find_incompatibilities(contract, runtime.name, runtime.version)
        refused = Failure(code="runtime.incompatible", message="; ".join(reasons)) if reasons else None
        planned += [
            BenchmarkRow(runtime=runtime.name, version=runtime.version, threads=count, failure=refused)
            for count in (threads if refused is None else threads[:1])
        ]
    return planned


def limit_threads(cpu_count: int, cpus_max: int = 0) -> tuple[int, ...]:
    """``cpus_max``: on so many processors the worker will run (0: on all)."""
    usable = min(cpu_count, cpus_max) if cpus_max else cpu_count
    return tuple(count for count in THREADS if count <= max(1, usable))


def find_fastest(rows: Sequence[BenchmarkRow], memory_bytes_max: int | None = None) -> BenchmarkRow | None:
    """Return the row with the smallest median among those that passed within the memory that the worker may
    have: at equal medians the first, which is the preferred runtime with the fewest threads."""
    passed = [row for row in rows if row.passed and _fits(row, memory_bytes_max)]
    return min(passed, key=lambda row: row.measured.p50_us if row.measured else 0.0, default=None)


def _fits(row: BenchmarkRow, memory_bytes_max: int | None) -> bool:
    return memory_bytes_max is None or row.measured is None or row.measured.peak_bytes <= memory_bytes_max
