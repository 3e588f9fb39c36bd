"""Whether there are samples, from which a pass sees ranges of activations, or what the loss minds."""

from typing import Final

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.lab import Lab

RANGES: Final = "from which the ranges of activations are taken"


def require_samples(lab: Lab | None, kind: str, why: str = RANGES) -> Lab:
    """Return the lab; raise `BuildError` (``build.samples``) when it has no samples. ``why``: what they are
    for."""
    if lab is None or not len(lab.train):
        raise BuildError(
            f"{kind} needs samples, {why}",
            hint="name a data set (labels are not needed); float16 and dynamic-range need none",
            code="build.samples",
        )
    return lab
