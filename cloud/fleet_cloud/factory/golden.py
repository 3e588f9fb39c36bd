"""Golden vectors: recorded inputs and outputs that prove a runtime on a device.

The tolerance is the variant's own: the largest difference over the ways to compute that are at
hand, with a margin; at least 4 steps for an integer output. Samples are those whose two best
classes are at least twice the tolerance apart, so that no honest runtime flips a class.
"""

import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.evaluate import Kernels, LiteModel
from fleet_shared.manifest import Golden

Array = NDArray[Any]

SAMPLES: Final = 16
STEPS_MIN: Final = 4
FLOAT_TOLERANCE_MIN: Final = 1e-4
MARGIN: Final = 2.0
WAYS: Final = (Kernels(1), Kernels(2), Kernels(1, reference=True))


def make_golden(content: bytes, candidates: Sequence[Sequence[Array]]) -> tuple[Golden, bytes]:
    """Return the rule and the ``.npz`` for a file. ``candidates``: samples as lists of inputs, each
    with a batch of one, in the tensors' own types."""
    models = [LiteModel(content, way) for way in WAYS]
    recorded = [[model.run(sample) for model in models] for sample in candidates]
    tolerance = _tolerance(models[0], recorded)
    clear = [i for i, runs in enumerate(recorded) if _margin(models[0], runs[0]) >= 2 * tolerance]
    same_class = len(clear) >= min(SAMPLES, len(candidates)) // 2 > 0
    chosen = (clear if same_class else list(range(len(candidates))))[:SAMPLES]
    rule = Golden(samples=len(chosen), tolerance=tolerance, same_class=same_class)
    return rule, pack_golden([candidates[i] for i in chosen], [recorded[i][0] for i in chosen])


def pack_golden(inputs: Sequence[Sequence[Array]], outputs: Sequence[Sequence[Array]]) -> bytes:
    """Return the ``.npz``: ``input_0`` .. and ``output_0`` .., samples first, without the batch."""
    arrays = {f"input_{i}": np.concatenate(column) for i, column in enumerate(zip(*inputs, strict=True))}
    arrays |= {f"output_{i}": np.concatenate(column) for i, column in enumerate(zip(*outputs, strict=True))}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _tolerance(model: LiteModel, recorded: Sequence[Sequence[Sequence[Array]]]) -> float:
    worst = floor = 0.0
    for index, detail in enumerate(model.outputs):
        floor = max(floor, STEPS_MIN * float(detail["quantization"][0]), FLOAT_TOLERANCE_MIN)
        for runs in recorded:
            first = model.dequantize(runs[0][index], index)
            for other in runs[1:]:
                worst = max(worst, float(np.max(np.abs(model.dequantize(other[index], index) - first))))
    return max(floor, MARGIN * worst)


def _margin(model: LiteModel, outputs: Sequence[Array]) -> float:
    """Return how far the two best classes of the smallest-margin output are apart."""
    margins = []
    for index, output in enumerate(outputs):
        real = np.sort(model.dequantize(output, index).ravel())
        margins.append(float(real[-1] - real[-2]) if real.size > 1 else 0.0)
    return min(margins)
