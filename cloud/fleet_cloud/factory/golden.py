"""Golden vectors: recorded inputs and outputs that prove a runtime on a device.

The tolerance is the variant's own: the largest difference over the ways to compute that are at
hand, with a margin; at least 4 steps for an integer output. Samples are those whose two best
classes are at least twice the tolerance apart, so that no honest runtime flips a class.
"""

import io
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.evaluate import Kernels, LiteModel
from fleet_shared.manifest import Golden

Array = NDArray[Any]
Outputs = Sequence[NDArray[np.float32]]
"""The real-valued outputs of one sample."""

SAMPLES: Final = 16
STEPS_MIN: Final = 4
FLOAT_TOLERANCE_MIN: Final = 1e-4
MARGIN: Final = 2.0
WAYS: Final = (Kernels(1), Kernels(2), Kernels(1, reference=True))


def make_golden(content: bytes, candidates: Sequence[Sequence[Array]]) -> tuple[Golden, bytes]:
    """Return the rule and the ``.npz`` for a file. ``candidates``: samples as lists of inputs, in the
    tensors' own shapes and types. Raises `Invalid` (``model.golden``) when they prove nothing."""
    first, *others = (LiteModel(content, way) for way in WAYS)
    recorded = [first.run(sample) for sample in candidates]
    real = [_dequantize(first, outputs) for outputs in recorded]
    _check_finite(real)
    tolerance = _floor(first)
    for other in others:
        for sample, wanted in zip(candidates, real, strict=True):
            got = _dequantize(other, other.run(sample))
            tolerance = max(tolerance, MARGIN * find_difference(got, wanted))
    chosen, same_class = choose_samples(real, tolerance)
    rule = Golden(samples=len(chosen), tolerance=tolerance, same_class=same_class)
    return rule, pack_golden([candidates[i] for i in chosen], [recorded[i] for i in chosen])


def choose_samples(outputs: Sequence[Outputs], tolerance: float) -> tuple[list[int], bool]:
    """Return which samples to keep, and whether their classes may be compared.

    Classes take turns, so that few samples still see many of them. With too few clear samples all
    are taken, and only the tolerance is tested.
    """
    if not outputs:
        raise Invalid("there are no samples for golden vectors", code="model.golden")
    clear = [i for i, found in enumerate(outputs) if _margin(found) >= 2 * tolerance]
    same_class = len(clear) >= max(1, min(SAMPLES, len(outputs)) // 2)
    pool = clear if same_class else list(range(len(outputs)))
    by_class: defaultdict[int, list[int]] = defaultdict(list)
    for i in pool:
        by_class[int(outputs[i][0].argmax())].append(i)
    turns = chain.from_iterable(zip_longest(*(by_class[number] for number in sorted(by_class))))
    return [i for i in turns if i is not None][:SAMPLES], same_class


def pack_golden(inputs: Sequence[Sequence[Array]], outputs: Sequence[Sequence[Array]]) -> bytes:
    """Return the ``.npz``: ``input_0`` .. and ``output_0`` .., samples first, without a batch of one."""
    arrays = {f"input_{i}": _stack(column) for i, column in enumerate(zip(*inputs, strict=True))}
    arrays |= {f"output_{i}": _stack(column) for i, column in enumerate(zip(*outputs, strict=True))}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def get_item_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a tensor's shape without a leading batch of one."""
    whole = tuple(int(size) for size in shape)
    return whole[1:] if whole[:1] == (1,) else whole


def find_difference(got: Outputs, wanted: Outputs) -> float:
    """Return the largest absolute difference over all outputs of a sample; NaN becomes infinity."""
    worst = max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(got, wanted, strict=True))
    return worst if np.isfinite(worst) else float("inf")


def _stack(column: Sequence[Array]) -> Array:
    return np.stack([array.reshape(get_item_shape(array.shape)) for array in column])


def _dequantize(model: LiteModel, outputs: Sequence[Array]) -> list[NDArray[np.float32]]:
    return [model.dequantize(output, index) for index, output in enumerate(outputs)]


def _check_finite(real: Sequence[Outputs]) -> None:
    for number, outputs in enumerate(real):
        if not all(np.isfinite(output).all() for output in outputs):
            raise Invalid(
                f"the outputs for sample {number} are not finite: nothing could be compared on a device",
                hint="give samples that the model was made for",
                code="model.golden",
            )


def _floor(model: LiteModel) -> float:
    steps = max(float(detail["quantization"][0]) for detail in model.outputs)
    return max(STEPS_MIN * steps, FLOAT_TOLERANCE_MIN)


def _margin(outputs: Outputs) -> float:
    """Return how far the two best classes of the smallest-margin output are apart."""
    margins = []
    for output in outputs:
        real = np.sort(output.ravel())
        margins.append(float(real[-1] - real[-2]) if real.size > 1 else 0.0)
    return min(margins)
