"""Which weights of a model take few values: the kernels of its linear layers, never a bias."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.network import array_of, layers_of

Array = NDArray[Any]

_LAYERS: Final = keras.layers
_DEPTHWISE: Final = (_LAYERS.DepthwiseConv1D, _LAYERS.DepthwiseConv2D)
_TRANSPOSED: Final = (_LAYERS.Conv1DTranspose, _LAYERS.Conv2DTranspose)
_SEPARABLE: Final = (_LAYERS.SeparableConv1D, _LAYERS.SeparableConv2D)
_PLAIN: Final = (_LAYERS.Dense, _LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Conv3D)

_ENDS: Final = ("first", "last")


@dataclass(frozen=True)
class Kernel:
    """``channels``: the axes of the output channels. ``order``: the axes as a ``.tflite`` file has them, in
    which neighbours lie side by side (outputs before inputs)."""

    layer: str
    path: str
    weight: Array
    channels: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def others(self) -> tuple[int, ...]:
        """The axes over which one output channel sums."""
        return tuple(axis for axis in range(self.weight.ndim) if axis not in self.channels)

    @property
    def largest(self) -> Array:
        """The largest magnitude of each output channel, in a shape that broadcasts to the weight."""
        return np.asarray(np.abs(self.weight).max(axis=self.others, keepdims=True))


def kernels_of(model: Any, keep: Sequence[str] = ()) -> list[Kernel]:
    """Return the kernels in the order of the layers, without those of the layers to ``keep``: by name,
    ``first`` or ``last``. Raises `BuildError` (``build.layer``) for a name that is no such layer's."""
    found = [kernel for layer in layers_of(model) for kernel in _kernels(layer)]
    names = list(dict.fromkeys(kernel.layer for kernel in found))
    for name in keep:
        if name not in names and name not in _ENDS:
            raise BuildError(
                f"keep: {name!r} is no layer with a kernel",
                hint=f"first, last, or of: {', '.join(names)}",
                code="build.layer",
            )
    ends = dict(zip(_ENDS, (names[0], names[-1]), strict=True)) if names else {}
    kept = {ends.get(name, name) for name in keep if name in names or name in ends}
    return [kernel for kernel in found if kernel.layer not in kept]


def _kernels(layer: Any) -> list[Kernel]:
    if isinstance(layer, _SEPARABLE):
        return [_depthwise(layer, layer.depthwise_kernel), _plain(layer, layer.pointwise_kernel)]
    if isinstance(layer, _DEPTHWISE):
        return [_depthwise(layer, layer.kernel)]
    if isinstance(layer, _TRANSPOSED):  # (.., out, in)
        last = len(layer.kernel.shape) - 1
        order = (last - 1, *range(last - 1), last)
        return [Kernel(layer.name, layer.kernel.path, array_of(layer.kernel), (last - 1,), order)]
    return [_plain(layer, layer.kernel)] if isinstance(layer, _PLAIN) else []


def _plain(layer: Any, variable: Any) -> Kernel:
    """(.., in, out)"""
    last = len(variable.shape) - 1
    return Kernel(layer.name, variable.path, array_of(variable), (last,), (last, *range(last)))


def _depthwise(layer: Any, variable: Any) -> Kernel:
    """(.., in, multiplier), which together are the output channels."""
    last = len(variable.shape) - 1
    return Kernel(layer.name, variable.path, array_of(variable), (last - 1, last), tuple(range(last + 1)))
