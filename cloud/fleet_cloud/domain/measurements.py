"""What devices measured of a variant, and what it says about devices like them. Pure.

Like are devices of the same hardware and number of processors that run the same runtime in the same
major and minor version. What they measured is believed of their like: it decides which of the released
variants they get, never whether something runs. A device believes itself first; else the middle of what the
others say counts, so that one that lies, or is broken, decides nothing against two that are not.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from fleet_shared.messages.reported import Facts
from fleet_shared.names import DeviceId, Digest
from fleet_shared.runtime_range import parse_runtime_version
from fleet_shared.wire import clip

EVENT: Final = "benchmark.row"
HARDWARE_BYTES: Final = 200
_NAME: Final = re.compile(r"[a-z0-9_]{1,64}")
THREADS_MAX: Final = 256
LATENCY_US_MAX: Final = 3600 * 1e6

Detail = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of a benchmark. ``latency_p50_us`` is none where it could not run; ``passed``: the golden
    vectors came out. ``device`` measured it; it counts for all that are like it."""

    hardware: str
    runtime: str
    runtime_version: str
    threads: int
    manifest: Digest
    passed: bool
    latency_p50_us: float | None
    device: DeviceId
    measured_ms: int


def describe_hardware(facts: Facts) -> str:
    """Return what devices must have in common to be alike."""
    words = f"{facts.hardware or facts.machine}, {facts.machine}, {facts.cpu_count} processors"
    return clip(words.replace("\0", ""), HARDWARE_BYTES)


def describe_version(version: str) -> str:
    """Return major and minor: 2.14.0.post1 is 2.14."""
    return ".".join(str(number) for number in parse_runtime_version(version)[:2])


def read_row(
    detail: Detail, facts: Facts, device: DeviceId, manifest: Digest, now_ms: int
) -> Measurement | None:
    """Return what a device's event says of ``manifest``; none for one that makes no sense, or is about
    another variant or a runtime that the device does not have."""
    runtime, threads, p50_us = detail.get("runtime"), detail.get("threads"), detail.get("latency_p50_us")
    installed = {one.name: one.version for one in facts.runtimes}
    if not isinstance(runtime, str) or not _NAME.fullmatch(runtime) or runtime not in installed:
        return None
    if detail.get("manifest") != manifest:
        return None
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= THREADS_MAX:
        return None
    passed = detail.get("passed") is True
    if p50_us is not None and not _is_latency(p50_us):
        return None
    return Measurement(
        hardware=describe_hardware(facts),
        runtime=runtime,
        runtime_version=describe_version(installed[runtime]),
        threads=threads,
        manifest=manifest,
        passed=passed and p50_us is not None,
        latency_p50_us=None if p50_us is None else float(p50_us),
        device=device,
        measured_ms=now_ms,
    )


def find_latencies(
    measurements: Iterable[Measurement], facts: Facts, device: DeviceId | None = None
) -> dict[Digest, float]:
    """Return for each variant how fast it is on ``device``: its own best row that passed; else the middle
    of what devices like it say, of an even number the faster. Infinity where none passed. That it computes
    wrongly is believed of two others, not of one: nobody like it would ever get the variant to contradict."""
    hardware = describe_hardware(facts)
    installed = {(one.name, describe_version(one.version)) for one in facts.runtimes}
    said: dict[Digest, dict[DeviceId, float]] = defaultdict(dict)
    for one in measurements:
        if one.hardware == hardware and (one.runtime, one.runtime_version) in installed:
            p50_us = one.latency_p50_us if one.passed and one.latency_p50_us is not None else math.inf
            best = said[one.manifest]
            best[one.device] = min(p50_us, best.get(one.device, math.inf))
    found = {manifest: _agree(best, device) for manifest, best in said.items()}
    return {manifest: p50_us for manifest, p50_us in found.items() if p50_us is not None}


def _agree(best: Mapping[DeviceId, float], device: DeviceId | None) -> float | None:
    if device is not None and device in best:
        return best[device]
    middle = median_low(best.values())
    return None if len(best) == 1 and middle == math.inf else middle


def _is_latency(value: str | float | bool) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LATENCY_US_MAX
