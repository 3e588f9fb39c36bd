"""Which variant of a version a device gets, from what the device says it can run.

Among the variants that an installed runtime can run and that fit the memory, those whose
accuracy is within one point of the best of them are equal, and the smallest model file wins. It is
the accuracy on the validation split: the test split serves no decision. Whether int8 is faster is
not assumed: that is for measurements to say. Where a device like this one measured the variant that
would win, the fastest of the measured ones among the equals wins instead; one that computed wrongly on
all of its runtimes is no choice while there is another. A winner that nobody measured stays: an
update that measures tells more.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final

from fleet_cloud.domain.measurements import Measurement, find_latencies
from fleet_cloud.domain.model import ModelVersion, Variant
from fleet_shared.compatibility import find_incompatibilities
from fleet_shared.manifest import Role
from fleet_shared.messages.reported import Facts, Failure
from fleet_shared.names import DeviceId, Digest, VariantName

ACCURACY_SLACK: Final = 0.01
"""Accuracy (a fraction) that a smaller file may cost."""

MEMORY_SHARE: Final = 0.5
"""Share of the device's memory that one model may need."""


def choose_variant(
    version: ModelVersion,
    facts: Facts,
    forced: VariantName | None = None,
    measurements: Iterable[Measurement] = (),
    device: DeviceId | None = None,
) -> Variant | Failure:
    """Return the variant for ``device`` with these facts, or why none fits. ``measurements``: of the
    version's variants, on any devices."""
    wanted = [variant for variant in version.variants if forced in (None, variant.name)]
    reasons = {variant.name: find_obstacles(variant, facts) for variant in wanted}
    fitting = [variant for variant in wanted if not reasons[variant.name]]
    if not fitting:
        why = "; ".join(f"{name}: {', '.join(found)}" for name, found in reasons.items())
        return Failure(
            code="variant.none_fits",
            message=f"no variant of {version.model}:{version.version} fits the device: {why}",
            hint="build a variant for this runtime, or install another runtime on the device",
        )
    return _prefer(fitting, find_latencies(measurements, facts, device))


def _prefer(fitting: list[Variant], latencies_us: Mapping[Digest, float]) -> Variant:
    working = [variant for variant in fitting if latencies_us.get(variant.digest, 0.0) < math.inf]
    equal = _most_accurate(working or fitting)
    smallest = min(equal, key=lambda variant: (_model_bytes(variant), variant.name))
    if smallest.digest not in latencies_us:
        return smallest
    measured = [variant for variant in equal if variant.digest in latencies_us]
    return min(measured, key=lambda v: (latencies_us[v.digest], _model_bytes(v), v.name))


def find_obstacles(variant: Variant, facts: Facts) -> tuple[str, ...]:
    """Return why the device cannot run ``variant``; empty when nothing speaks against it."""
    contract = variant.manifest.contract
    if contract.memory_bytes > MEMORY_SHARE * facts.memory_bytes:
        return (f"needs {contract.memory_bytes} bytes of memory, the device has {facts.memory_bytes}",)
    if not facts.runtimes:
        return ("the device has no runtime",)
    found = [find_incompatibilities(contract, runtime.name, runtime.version) for runtime in facts.runtimes]
    return () if () in found else tuple(reason for reasons in found for reason in reasons)


def _model_bytes(variant: Variant) -> int:
    return variant.manifest.blobs[Role.MODEL].size_bytes


def _most_accurate(variants: list[Variant]) -> list[Variant]:
    """Return those within `ACCURACY_SLACK` of the best; all when an accuracy is unknown."""
    known = [variant.manifest.contract.metrics.validation_accuracy for variant in variants]
    if None in known:
        return variants
    best = max(accuracy for accuracy in known if accuracy is not None)
    return [
        variant
        for variant, accuracy in zip(variants, known, strict=True)
        if accuracy is not None and accuracy >= best - ACCURACY_SLACK
    ]
