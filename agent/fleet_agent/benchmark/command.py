"""``fleet-agent benchmark``: the active variant of this device, measured beside the running agent."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from fleet_agent.benchmark.measuring import NO_LIMITS, Measuring
from fleet_agent.benchmark.rows import BenchmarkRow, find_fastest, limit_threads, plan_rows
from fleet_agent.benchmark.table import describe_row, describe_table
from fleet_agent.errors import SettingsError, SlotError
from fleet_agent.paths import StatePaths
from fleet_agent.slots import MANIFEST_FILE, Slots
from fleet_agent.worker.protocol import Limits
from fleet_shared.errors import FleetError
from fleet_shared.manifest import Manifest, parse_manifest
from fleet_shared.messages.reported import Running, RuntimeFact

THREADS_MAX: Final = 256


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints. ``fastest`` is the row that passes with the smallest median."""

    running: Running
    rows: list[BenchmarkRow]
    fastest: BenchmarkRow | None


def parse_threads(text: str, cpus_max: int = 0) -> tuple[int, ...]:
    """Return the numbers in ``1,2,4``; those of this device, or of ``cpus_max`` processors, for an empty
    text. Raises `SettingsError` (``benchmark.threads``)."""
    if not text.strip():
        return limit_threads(os.cpu_count() or 1, cpus_max)
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and 1 <= int(word[:4]) <= THREADS_MAX for word in words):
        raise SettingsError(
            f"--threads {text!r} is no list of numbers from 1 to {THREADS_MAX}",
            hint="for example --threads 1,2,4",
            code="benchmark.threads",
        )
    return tuple(dict.fromkeys(int(word) for word in words))


def run_benchmark(
    state: Path,
    find_runtimes: Callable[[], Sequence[RuntimeFact]],
    threads: Sequence[int],
    runs: int,
    *,
    limits: Limits = NO_LIMITS,
    as_json: bool,
) -> None:
    """Measure and print. Raises `SlotError` (``benchmark.no_model``), and `FleetError`
    (``benchmark.none_passed``) after the table when no row passes."""
    paths = StatePaths(state)
    running, manifest = _load_active(paths)
    planned = plan_rows(manifest.contract, find_runtimes(), threads)
    slot = paths.slots / running.manifest
    rows = Measuring(slot, paths.compiled, limits, runs).fill_in(planned, _tell)
    fastest = find_fastest(rows)
    if as_json:
        report = Report(running=running, rows=rows, fastest=fastest)
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        print(f"{running.model}:{running.version} ({running.variant}), {runs} runs each")
        print(describe_table(rows))
    if fastest is None:
        raise FleetError(
            "no runtime of this device computes the model within its tolerance",
            hint="install another runtime, or push another variant",
            code="benchmark.none_passed",
        )


def _load_active(paths: StatePaths) -> tuple[Running, Manifest]:
    pointers = Slots(paths.slots, paths.pointers).load_pointers() if paths.root.is_dir() else None
    if pointers is None or pointers.active is None:
        raise SlotError(
            f"no model is installed in {paths.root}: there is nothing to measure",
            hint="push one to this device first, or name its state folder with --state",
            code="benchmark.no_model",
        )
    file = paths.slots / pointers.active.manifest / MANIFEST_FILE
    try:
        return pointers.active, parse_manifest(file.read_bytes())
    except OSError as exc:
        raise SlotError(f"{file} cannot be read: {exc}", hint="push the model again") from exc


def _tell(row: BenchmarkRow) -> None:
    """Progress, for a person who waits."""
    if sys.stderr.isatty():
        print(describe_row(row), file=sys.stderr)
