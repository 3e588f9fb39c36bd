"""What takes the channels that are left learns to do without the others: least squares, layer by layer.

A kernel that lost inputs is solved anew, so that from the smaller network's own tensors it gives what it gave
before: min |X W + b - Y|^2 + ridge |W - W0|^2 over the patches X that it takes and the outputs Y of before, X
being of the smaller network, so that later layers make up for the errors of earlier ones, and W0 the kernel
as it was cut (He et al., 2017, "Channel pruning for accelerating very deep neural networks", section 3). No
labels are needed. What the ridge is, and whether the solution is better than what was cut at all, a quarter
of the samples says, which the equations have not seen.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.graph import Call, read_calls
from fleet_cloud.factory.network import Network, array_of, copy_model
from fleet_cloud.factory.pruning.dependencies import Dependencies
from fleet_cloud.factory.pruning.removal import Kept, find_kept

Array = NDArray[Any]
Indices = NDArray[np.int64]

SAMPLES: Final = 512
SAMPLES_MIN: Final = 8
PLACES: Final = 32
"""At most so many positions of an output are looked at for a sample."""

WIDEST: Final = 5000
"""Inputs of a kernel beyond which it is left as it was cut: the equations grow with their square."""

RIDGES: Final = (1e-4, 1e-2, 1e-1, 1.0)
"""In units of the mean variance of an input."""

_HELD_OUT: Final = 4
"""One of so many samples judges."""

_BATCH: Final = 32


@dataclass(frozen=True)
class Reconstructed:
    """``errors``: by layer, the squared error of its outputs to those of before, as a share of their
    variance, on the samples that judge: with the kernel as it was cut, and as it was solved (the same, if the
    solution was no better and was left)."""

    network: Network
    errors: dict[str, tuple[float, float]]


def reconstruct(
    before: Network, dependencies: Dependencies, removed: Collection[int], after: Network, samples: Array
) -> Reconstructed:
    """Return ``after``, which is ``before`` without the channels ``removed``, with kernels that make up for
    what is gone.

    ``samples``: real inputs (n, ...); with fewer than `SAMPLES_MIN`, all stays. Left alone are kernels that
    keep a constraint, those of more than `WIDEST` inputs, and layers that are no plain convolutions in two
    dimensions or dense layers. The networks given stay as they are.
    """
    model, kept = copy_model(after.model), find_kept(dependencies, removed)
    calls = zip(read_calls(before.model), read_calls(model), strict=True)
    pairs = [
        _Pair(whole, cut, kept[cut.layer.kernel.path].get(cut.layer.kernel.ndim - 1), samples)
        for whole, cut in calls
        if _lost_inputs(cut.layer, kept) and _is_free(cut.layer, after)
    ]
    if not pairs or len(samples) < SAMPLES_MIN:
        return Reconstructed(after, {})
    wanted = _look_at_whole(before.model, pairs, samples)
    errors = {
        str(pair.cut.layer.name): _solve(pair, model, outputs, samples)
        for pair, outputs in zip(pairs, wanted, strict=True)
    }
    return Reconstructed(replace(after, model=model), errors)


class _Pair:
    """A layer before and after. ``stays``: the outputs that are left, none for all. ``places``: for each
    batch of samples, the positions of the output that are looked at."""

    def __init__(self, whole: Call, cut: Call, stays: Indices | None, samples: Array) -> None:
        self.whole, self.cut, self.stays = whole, cut, stays
        count = int(np.prod(whole.outputs[0].shape[1:-1]))
        random = np.random.default_rng(0)
        self.places = [random.permutation(count)[:PLACES] for _ in _batches(samples)]

    def take_wanted(self, outputs: Array, places: Indices) -> Array:
        """Return (samples, places, outputs that stay)."""
        rows = outputs.reshape(len(outputs), -1, outputs.shape[-1])[:, places]
        return rows if self.stays is None else rows[..., self.stays]


class _Sums:
    """Of rows of inputs A, errors R and outputs Y, what their least squares take."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.count = 0
        self.a, self.r, self.y = np.zeros(inputs), np.zeros(outputs), np.zeros(outputs)
        self.aa, self.ar = np.zeros((inputs, inputs)), np.zeros((inputs, outputs))
        self.rr, self.yy = 0.0, 0.0

    def add(self, taken: Array, errors: Array, wanted: Array) -> None:
        self.count += len(taken)
        self.a += taken.sum(axis=0)
        self.r += errors.sum(axis=0)
        self.y += wanted.sum(axis=0)
        self.aa += taken.T @ taken
        self.ar += taken.T @ errors
        self.rr += float((errors**2).sum())
        self.yy += float((wanted**2).sum())

    def join(self, other: "_Sums") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def solve(self, ridge: float, biased: bool) -> tuple[Array, Array]:
        """Return the steps of kernel and bias; without a bias, its step is zero."""
        share = self.count * biased
        mean, error = (self.a / self.count, self.r / self.count) if biased else (0 * self.a, 0 * self.r)
        square = self.aa - share * np.outer(mean, mean)
        square[np.diag_indices_from(square)] += ridge * float(np.trace(square)) / len(square) or 1.0
        step = np.linalg.solve(square, self.ar - share * np.outer(mean, error))
        return step, error - mean @ step

    def measure(self, step: Array, shift: Array) -> float:
        """Return the squared error after these steps, as a share of the outputs' variance."""
        left = self.rr - 2 * (step * self.ar).sum() + (step * (self.aa @ step)).sum()
        left += self.count * shift @ shift - 2 * shift @ self.r + 2 * shift @ (self.a @ step)
        variance = self.yy - float(self.y @ self.y) / self.count
        return max(0.0, float(left)) / (max(variance, 1e-9 * self.yy) or 1.0)


def _look_at_whole(model: Any, pairs: Sequence[_Pair], samples: Array) -> list[list[Array]]:
    """Return for each pair, batch by batch, what the layer of before gives at the places looked at."""
    inputs = keras.Model(model.input, [pair.whole.inputs[0] for pair in pairs])
    wanted: list[list[Array]] = [[] for _ in pairs]
    for number, batch in enumerate(_batches(samples)):
        given = keras.tree.flatten(inputs(samples[batch], training=False))
        for found, pair, tensor in zip(wanted, pairs, given, strict=True):
            outputs = _apply(pair.whole.layer, tensor)
            found.append(pair.take_wanted(outputs, pair.places[number]))
    return wanted


def _solve(pair: _Pair, model: Any, wanted: Sequence[Array], samples: Array) -> tuple[float, float]:
    """Assign kernel and bias; return the errors without that and with it."""
    layer = pair.cut.layer
    kernel = array_of(layer.kernel)
    flat = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
    bias = array_of(layer.bias) if layer.use_bias else np.zeros(flat.shape[1])
    learnt, judged = _Sums(*flat.shape), _Sums(*flat.shape)
    inputs = keras.Model(model.input, pair.cut.inputs[0])
    for batch, places, outputs in zip(_batches(samples), pair.places, wanted, strict=True):
        taken = _unfold(layer, array_of(inputs(samples[batch], training=False)), places)
        judges = np.arange(len(taken)) % _HELD_OUT == _HELD_OUT - 1
        for sums, some in ((learnt, ~judges), (judged, judges)):
            rows, y = (_rows(one[some]) for one in (taken, outputs))
            sums.add(rows, y - (rows @ flat + bias), y)
    as_cut = judged.measure(np.zeros_like(flat), np.zeros_like(bias))
    tried = [(judged.measure(*learnt.solve(ridge, layer.use_bias)), ridge) for ridge in RIDGES]
    left, ridge = min(tried)
    if left >= as_cut:
        return as_cut, as_cut
    learnt.join(judged)
    step, shift = learnt.solve(ridge, layer.use_bias)
    layer.kernel.assign((flat + step).reshape(kernel.shape).astype(kernel.dtype))
    if layer.use_bias:
        layer.bias.assign((bias + shift).astype(bias.dtype))
    return as_cut, left


def _batches(samples: Array) -> Iterator[slice]:
    for begin in range(0, len(samples), _BATCH):
        yield slice(begin, begin + _BATCH)


def _lost_inputs(layer: Any, kept: dict[str, Kept]) -> bool:
    if type(layer) not in (keras.layers.Conv2D, keras.layers.Dense):
        return False
    *taken, _outputs = layer.kernel.shape
    lost = layer.kernel.ndim - 2 in kept.get(layer.kernel.path, {})
    return lost and int(np.prod(taken)) <= WIDEST


def _is_free(layer: Any, network: Network) -> bool:
    weights = [layer.kernel, *([layer.bias] if layer.use_bias else [])]
    return all(one.path not in network.constraints and one.constraint is None for one in weights)


def _unfold(layer: Any, given: Array, places: Indices) -> Array:
    """Return what the kernel takes at each place, (samples, places, inputs) in the order of its weights.

    ``given``: (samples, ..., channels); ``places``: positions of the output, numbered row by row.
    """
    if isinstance(layer, keras.layers.Dense):
        return given.reshape(len(given), -1, given.shape[-1])[:, places]
    (top, _), (left, columns) = (_pad(layer, given.shape[axis + 1], axis) for axis in (0, 1))
    bottom, right = (size * rate for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True))
    padded = np.pad(given, ((0, 0), (top, bottom), (left, right), (0, 0)))
    row, column = np.divmod(places, columns)
    high, wide = (
        position[:, None] * layer.strides[axis]
        + np.arange(layer.kernel_size[axis]) * layer.dilation_rate[axis]
        for axis, position in enumerate((row, column))
    )
    patches = padded[:, high[:, :, None], wide[:, None, :]]
    return patches.reshape(len(given), len(places), -1)


def _pad(layer: Any, size: int, axis: int) -> tuple[int, int]:
    """Return how many zeros stand before an axis of ``size``, and how many positions the output has."""
    window = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
    stride = layer.strides[axis]
    if layer.padding == "valid":
        return 0, (size - window) // stride + 1
    count = -(-size // stride)
    return max(0, (count - 1) * stride + window - size) // 2, count


def _apply(layer: Any, given: Any) -> Array:
    """Return what the layer gives before its activation."""
    given, kernel = (keras.ops.cast(one, "float32") for one in (given, layer.kernel))
    dense = isinstance(layer, keras.layers.Dense)
    made = keras.ops.matmul(given, kernel) if dense else layer.convolution_op(given, kernel)
    return array_of(made) + (array_of(layer.bias) if layer.use_bias else 0)


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1]).astype(np.float64)
