"""Whether there is something from which to take the ranges of activations."""

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.lab import Lab


def require_samples(lab: Lab | None, kind: str) -> Lab:
    """Return the lab; raise `BuildError` (``build.samples``) when it has no samples."""
    if lab is None or not len(lab.train):
        raise BuildError(
            f"{kind} needs samples, from which the ranges of activations are taken",
            hint="name a data set (labels are not needed), or choose float16 or dynamic-range",
            code="build.samples",
        )
    return lab
