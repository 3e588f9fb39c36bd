"""The self-test: recorded inputs must give the recorded outputs, within the tolerance."""

import io
import sys
from typing import Final

import numpy as np

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, Model, TensorInfo
from fleet_agent.worker.protocol import SelfTest
from fleet_agent.worker.tensors import dequantize
from fleet_shared.manifest import Golden

NOT_A_NUMBER: Final = sys.float_info.max
"""The difference of an output that is not a finite number: JSON has no word for those."""


def run_golden(model: Model, golden: Golden, content: bytes) -> SelfTest:
    """Run the golden vectors in ``content`` (a file ``.npz``) and return how they came out.

    ``input_0`` .. and ``output_0`` .. hold samples first, each without a batch of one. Raises
    `WorkerError` (``worker.golden.file``) when the file does not fit the model.
    """
    arrays = _load(content)
    inputs = [_take(arrays, f"input_{i}", golden, info) for i, info in enumerate(model.inputs)]
    outputs = [_take(arrays, f"output_{i}", golden, info) for i, info in enumerate(model.outputs)]
    worst, flips = 0.0, 0
    for sample in range(golden.samples):
        got = model.invoke([array[sample] for array in inputs])
        for info, recorded, array in zip(model.outputs, outputs, got, strict=True):
            wanted = dequantize(recorded[sample], info)
            real = dequantize(array, info)
            worst = max(worst, _difference(real, wanted))
            flips += int(golden.same_class and real.argmax() != wanted.argmax())
    return SelfTest(
        samples=golden.samples, max_difference=worst, tolerance=golden.tolerance, class_flips=flips
    )


def load_samples(model: Model, golden: Golden, content: bytes) -> list[list[Array]]:
    """Return the inputs of the golden vectors, one list of tensors a sample. Raises `WorkerError`
    (``worker.golden.file``)."""
    arrays = _load(content)
    inputs = [_take(arrays, f"input_{i}", golden, info) for i, info in enumerate(model.inputs)]
    return [[array[sample] for array in inputs] for sample in range(golden.samples)]


def has_passed(test: SelfTest) -> bool:
    """At most the tolerance, and no class has changed. What is not a number fails any tolerance."""
    return (
        test.max_difference < NOT_A_NUMBER and test.max_difference <= test.tolerance and test.class_flips == 0
    )


def _difference(real: Array, wanted: Array) -> float:
    if not (np.isfinite(real).all() and np.isfinite(wanted).all()):
        return NOT_A_NUMBER
    return float(np.max(np.abs(real.astype(np.float64) - wanted), initial=0.0))


def _take(arrays: dict[str, Array], name: str, golden: Golden, info: TensorInfo) -> Array:
    """Return the samples of one tensor, each in the tensor's own shape."""
    array = arrays.get(name)
    size = golden.samples * int(np.prod(info.shape))
    if array is None or array.dtype != info.dtype or array.size != size or not size:
        raise WorkerError(
            f"the golden vectors have no {name} of {golden.samples} samples of {info.dtype} {info.shape}",
            hint="the golden vectors do not belong to this model file",
            code="worker.golden.file",
        )
    return array.reshape((golden.samples, *info.shape))


def _load(content: bytes) -> dict[str, Array]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return dict(archive)
    except Exception as exc:  # zlib, zip and numpy each have their own for damage
        raise WorkerError(f"the golden vectors cannot be read: {exc}", code="worker.golden.file") from exc
