"""The self-test: recorded inputs must give the recorded outputs, within the tolerance."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, Model
from fleet_agent.worker.protocol import SelfTest
from fleet_agent.worker.tensors import dequantize
from fleet_shared.manifest import Golden


def run_golden(model: Model, golden: Golden, file: Path) -> SelfTest:
    """Run the golden vectors in ``file`` (``input_0`` .. and ``output_0`` .., samples first,
    each without the batch) and return how they came out."""
    arrays = _load(file)
    inputs = [arrays[f"input_{i}"] for i in range(len(model.inputs))]
    outputs = [arrays[f"output_{i}"] for i in range(len(model.outputs))]
    worst, flips = 0.0, 0
    for sample in range(golden.samples):
        got = model.invoke([array[sample][np.newaxis] for array in inputs])
        for info, recorded, array in zip(model.outputs, outputs, got, strict=True):
            wanted = dequantize(recorded[sample], info)
            real = dequantize(array[0], info)
            worst = max(worst, _difference(real, wanted))
            flips += int(golden.same_class and real.argmax() != wanted.argmax())
    return SelfTest(
        samples=golden.samples, max_difference=worst, tolerance=golden.tolerance, class_flips=flips
    )


def has_passed(test: SelfTest) -> bool:
    """At most the tolerance, and no class has changed. NaN fails."""
    return test.max_difference <= test.tolerance and test.class_flips == 0


def _difference(real: Array, wanted: Array) -> float:
    worst = float(np.max(np.abs(real - wanted), initial=0.0))
    return worst if np.isfinite(worst) else float("inf")


def _load(file: Path) -> dict[str, Array]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, BadZipFile) as exc:
        raise WorkerError(f"golden vectors {file} cannot be read: {exc}", code="worker.golden.file") from exc
