"""What gates judge of a file, on the validation split."""

import numpy as np

from fleet_cloud.factory.evaluate import LiteModel, evaluate
from fleet_cloud.factory.gates import Measured
from fleet_cloud.factory.inspect import inspect_file
from fleet_cloud.factory.lab import Lab


def measure(content: bytes, reference: bytes, lab: Lab) -> Measured:
    """Return what ``content`` is on the validation split, beside ``reference``, the float file."""
    real = lab.real(lab.validation.x)
    y = np.asarray(lab.validation.y)
    found, wanted = (evaluate(LiteModel(one), real, y) for one in (content, reference))
    return Measured(
        size_bytes=len(content),
        accuracy=found.accuracy,
        accuracy_drop=wanted.accuracy - found.accuracy,
        agreement=float(np.mean(found.classes == wanted.classes)),
        latency_us=found.latency_p50_us,
        memory_bytes=inspect_file(content).memory_bytes,
    )
