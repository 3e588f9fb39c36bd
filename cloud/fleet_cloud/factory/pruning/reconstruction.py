"""What takes the channels that are left learns to do without the others: least squares, layer by layer.

A kernel that lost inputs is solved anew, so that from the smaller network's own tensors it gives what it gave
before: min |X W + b - Y|^2 over the patches X that it takes and the outputs Y of before, X being of the
smaller network, so that later layers make up for the errors of earlier ones (He et al., 2017, "Channel
pruning for accelerating very deep neural networks", section 3). No labels are needed. Channels that were
zero, or sums of others, cost nothing then.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.factory.graph import read_calls
from fleet_cloud.factory.network import Network, array_of, copy_model
from fleet_cloud.factory.pruning.dependencies import Dependencies
from fleet_cloud.factory.pruning.removal import Kept, find_kept

Array = NDArray[Any]

SAMPLES: Final = 512
PLACES: Final = 64
"""At most so many positions of an output are looked at for a sample."""

WIDEST: Final = 8192
"""Inputs of a kernel beyond which it is left as it was cut: the equations grow with their square."""

RIDGE: Final = 1e-4
"""Pulls towards the kernel as it was cut, in units of the mean square of the inputs."""

_BATCH: Final = 16


@dataclass(frozen=True)
class Reconstructed:
    """``errors``: by layer, the squared error of its outputs to those of before, as a share of their
    variance: with the kernel as it was cut, and as it was solved."""

    network: Network
    errors: dict[str, tuple[float, float]]


def reconstruct(
    before: Network, dependencies: Dependencies, removed: Collection[int], after: Network, samples: Array
) -> Reconstructed:
    """Return ``after``, which is ``before`` without the channels ``removed``, with kernels that make up for
    what is gone.

    ``samples``: real inputs (n, ...); with none, all stays. Left alone are kernels that keep a constraint,
    and layers that are no plain convolutions in two dimensions or dense layers. The networks given stay as
    they are.
    """
    model, kept = copy_model(after.model), find_kept(dependencies, removed)
    errors: dict[str, tuple[float, float]] = {}
    calls = zip(read_calls(before.model), read_calls(model), strict=True) if len(samples) else ()
    for whole, cut in calls:
        if _lost_inputs(cut.layer, kept) and cut.layer.kernel.path not in after.constraints:
            stays = kept[cut.layer.kernel.path].get(cut.layer.kernel.ndim - 1)
            pair = _Pair(
                keras.Model(before.model.input, whole.inputs[0]), whole.layer,
                keras.Model(model.input, cut.inputs[0]), cut.layer, stays,
            )  # fmt: skip
            errors[str(cut.layer.name)] = _solve(pair, samples)
    return Reconstructed(replace(after, model=model), errors)


@dataclass(frozen=True)
class _Pair:
    """A layer before and after, each with the model that gives its inputs; ``stays``: the outputs that are
    left, none for all."""

    whole_inputs: Any
    whole: Any
    cut_inputs: Any
    cut: Any
    stays: NDArray[np.int64] | None

    def look(self, samples: Array) -> Iterator[tuple[Array, Array]]:
        """Yield for some samples at a time (rows, inputs of the kernel that was cut) and (rows, outputs) of
        before."""
        random = np.random.default_rng(0)
        for begin in range(0, len(samples), _BATCH):
            x = tf.convert_to_tensor(samples[begin : begin + _BATCH])
            given = self.cut_inputs(x, training=False)
            taken = _rows(_unfold(self.cut, given))
            wanted = _rows(array_of(_apply(self.whole, self.whole_inputs(x, training=False))))
            if self.stays is not None:
                wanted = wanted[:, self.stays]
            rows = random.permutation(len(taken))[: PLACES * len(x)]
            yield taken[rows].astype(np.float64), wanted[rows].astype(np.float64)


class _Sums:
    """What the normal equations take, row by row: A'A, A'R, R'R of inputs A and errors R."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.square, self.mixed = np.zeros((inputs, inputs)), np.zeros((inputs, outputs))
        self.error, self.count = 0.0, 0
        self._total, self._total_square = np.zeros(outputs), np.zeros(outputs)

    def add(self, taken: Array, errors: Array, wanted: Array) -> None:
        self.square += taken.T @ taken
        self.mixed += taken.T @ errors
        self.error += float((errors**2).sum())
        self.count += len(taken)
        self._total += wanted.sum(axis=0)
        self._total_square += (wanted**2).sum(axis=0)

    @property
    def variance(self) -> float:
        return float((self._total_square - self._total**2 / self.count).sum())


def _solve(pair: _Pair, samples: Array) -> tuple[float, float]:
    """Assign kernel and bias; return the errors without that and with it."""
    layer = pair.cut
    kernel = array_of(layer.kernel)
    flat = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
    bias = array_of(layer.bias) if layer.use_bias else np.zeros(flat.shape[1])
    inputs = len(flat) + bool(layer.use_bias)
    sums = _Sums(inputs, flat.shape[1])
    for taken, wanted in pair.look(samples):
        errors = wanted - (taken @ flat + bias)
        ones = np.ones((len(taken), inputs - len(flat)))
        sums.add(np.hstack([taken, ones]), errors, wanted)
    ridge = np.zeros(inputs)
    ridge[: len(flat)] = RIDGE * np.trace(sums.square[: len(flat), : len(flat)]) / len(flat) or 1.0
    step = np.linalg.solve(sums.square + np.diag(ridge), sums.mixed)
    left = sums.error - 2 * (step * sums.mixed).sum() + (step * (sums.square @ step)).sum()
    layer.kernel.assign((flat + step[: len(flat)]).reshape(kernel.shape).astype(kernel.dtype))
    if layer.use_bias:
        layer.bias.assign((bias + step[-1]).astype(bias.dtype))
    scale = sums.variance or 1.0
    return sums.error / scale, max(0.0, float(left)) / scale


def _lost_inputs(layer: Any, kept: dict[str, Kept]) -> bool:
    if type(layer) not in (keras.layers.Conv2D, keras.layers.Dense):
        return False
    *window, inputs, _outputs = layer.kernel.shape
    return inputs * int(np.prod(window)) <= WIDEST and layer.kernel.ndim - 2 in kept.get(
        layer.kernel.path, {}
    )


def _unfold(layer: Any, given: Any) -> Array:
    """Return what the kernel takes at each position, along the last axis in the order of its weights."""
    if isinstance(layer, keras.layers.Dense):
        return array_of(given)
    return array_of(
        tf.image.extract_patches(
            given,
            sizes=(1, *layer.kernel_size, 1),
            strides=(1, *layer.strides, 1),
            rates=(1, *layer.dilation_rate, 1),
            padding=layer.padding.upper(),
        )
    )


def _apply(layer: Any, given: Any) -> Any:
    """Return what the layer gives before its activation."""
    if isinstance(layer, keras.layers.Dense):
        made = keras.ops.matmul(given, layer.kernel)
    else:
        made = layer.convolution_op(given, layer.kernel)
    return made + layer.bias if layer.use_bias else made


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])
