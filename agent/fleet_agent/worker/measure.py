"""Measure one runtime on an installed variant: ``python -m fleet_agent.worker.measure``.

A process of its own for each runtime and number of threads: one that crashes takes nothing with it, and
memory is that of one runtime. Reads a `MeasureSpec`, prints `Measured` or `Failed`. The inputs are those
of the golden vectors, in turn; what came out wrong is told, not hidden: speed without the right
answers is none.
"""

import os
import sys
import threading
import time
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import psutil

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.loading import load_runtime
from fleet_agent.worker.engine import Engine
from fleet_agent.worker.golden import load_samples, run_golden
from fleet_agent.worker.limits import apply_limits
from fleet_agent.worker.protocol import Failed, Limits, Measured, MeasureSpec
from fleet_agent.worker.slot import load_slot
from fleet_agent.worker.statistics import Statistics, percentile
from fleet_shared.messages.reported import Failure

OOM_SCORE_MAX: Final = 1000


def measure(spec: MeasureSpec) -> Measured:
    """Raises `WorkerError` for a runtime or model that does not load or compute."""
    apply_limits(spec.limits)
    slot = load_slot(Path(spec.slot), spec.manifest)
    runtime = load_runtime(spec.runtime, Path(spec.compiled) if spec.compiled else None)
    engine = Engine(slot, runtime, spec.threads, Statistics(Random()))
    golden = slot.manifest.contract.golden
    test = run_golden(engine.model, golden, slot.golden)
    samples = cycle(load_samples(engine.model, golden, slot.golden))
    for sample in islice(samples, spec.warmups):
        engine.model.invoke(sample)
    before_bytes = psutil.Process().memory_info().rss
    times_us = []
    for sample in islice(samples, spec.runs):
        begin = time.perf_counter_ns()
        engine.model.invoke(sample)
        times_us.append((time.perf_counter_ns() - begin) / 1000)
    return Measured(
        runtime_version=runtime.version,
        runs=len(times_us),
        load_ms=engine.load_ms,
        p50_us=percentile(times_us, 0.50) or 0.0,
        p99_us=percentile(times_us, 0.99) or 0.0,
        peak_bytes=_load_peak_bytes(),
        growth_bytes=psutil.Process().memory_info().rss - before_bytes,
        self_test=test,
    )


def _load_peak_bytes() -> int:
    """Return the most memory that was resident. Not that of `getrusage`: there Linux counts what the parent
    held when it started this process."""
    status = Path("/proc/self/status").read_text()
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def _end_with(parent: int) -> None:
    """A supervisor that was killed can wait for nobody."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> int:
    # Whoever serves must outlive it when memory runs out.
    apply_limits(Limits(oom_score_adj=OOM_SCORE_MAX))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=MeasureSpec)
    try:
        said: Measured | Failed = measure(spec)
    except WorkerError as exc:
        said = Failed(failure=Failure.of(exc))
    print(msgspec.json.encode(said).decode())
    return 0 if isinstance(said, Measured) else 1


if __name__ == "__main__":
    sys.exit(main())
