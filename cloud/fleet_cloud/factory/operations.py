"""How much a model computes and holds, layer by layer.

Operations are multiply-accumulates of one inference (a batch of one). Every weight of a kernel is used once
at each position, so a layer's operations are the size of its kernel times the positions:

    convolution, depthwise     kernel height x width x inputs of a group x filters, at each output pixel
    separable convolution      both of its kernels, at each output pixel
    transposed convolution     the same, at each *input* pixel
    dense                      inputs x units, at each position before the last axis

Pixels that a kernel takes from the padding are counted like others. Biases, batch normalisation (the
converter folds it), activations, pooling and element-wise arithmetic are not counted: none multiplies and
accumulates over weights.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import keras
from keras import layers

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.graph import Call, flatten, read_calls

Shape = tuple[int, ...]
Use = tuple[Any, int]
"""A kernel, and the positions at which one call uses it."""
Uses = Callable[[Any, Shape, Shape], list[Use]]
"""From layer, input shape and output shape, both without the batch."""


@dataclass(frozen=True)
class LayerCost:
    """``operations``: of all calls of the layer; none, where this module cannot count its kind.
    ``parameters``: all weights, those of batch normalisation included."""

    name: str
    kind: str
    parameters: int
    operations: int | None


def count_operations(model: Any) -> int:
    """Return the multiply-accumulates of one inference; a kind of layer that is not known counts nothing
    (`describe_layers` names them). Raises `BuildError` (``build.shape``) if sizes are left open."""
    return sum(cost.operations or 0 for cost in describe_layers(model))


def count_parameters(model: Any) -> int:
    """Return the number of single weights that the model holds."""
    return sum(_size(weight) for weight in model.weights)


def describe_layers(model: Any) -> list[LayerCost]:
    """Return what each layer costs, in the order of computation. Models inside are taken apart."""
    costs: dict[str, LayerCost] = {}
    for call in read_calls(flatten(model)):
        layer, known = call.layer, costs.get(str(call.layer.name))
        uses = _find_uses(call)
        operations = None if uses is None else sum(_size(kernel) * positions for kernel, positions in uses)
        if known is not None and operations is not None:
            operations += known.operations or 0
        weights = layer.weights if isinstance(layer, keras.Layer) else []
        parameters = sum(_size(weight) for weight in weights)
        costs[str(layer.name)] = LayerCost(str(layer.name), type(layer).__name__, parameters, operations)
    return list(costs.values())


def find_positions(model: Any) -> dict[str, int]:
    """Return by the path of each kernel of a model without models inside at how many positions one
    inference uses it."""
    positions: Counter[str] = Counter()
    for call in read_calls(model):
        for kernel, count in _find_uses(call) or []:
            positions[kernel.path] += count
    return dict(positions)


def _find_uses(call: Call) -> list[Use] | None:
    layer = call.layer
    for kinds, find in _USES:
        if isinstance(layer, kinds):
            (taken,), (given,) = call.inputs, call.outputs
            return find(layer, _shape(taken, layer), _shape(given, layer))
    known = isinstance(layer, _FREE) or not (isinstance(layer, keras.Layer) and layer.weights)
    return [] if known and type(layer).__name__ not in _PRODUCTS else None


def _convolution(layer: Any, _taken: Shape, given: Shape) -> list[Use]:
    return [(layer.kernel, math.prod(given) // int(layer.filters))]


def _depthwise(layer: Any, _taken: Shape, given: Shape) -> list[Use]:
    return [(layer.kernel, math.prod(given) // math.prod(layer.kernel.shape[-2:]))]


def _separable(layer: Any, _taken: Shape, given: Shape) -> list[Use]:
    positions = math.prod(given) // int(layer.filters)
    return [(layer.depthwise_kernel, positions), (layer.pointwise_kernel, positions)]


def _transposed(layer: Any, taken: Shape, _given: Shape) -> list[Use]:
    return [(layer.kernel, math.prod(taken) // int(layer.kernel.shape[-1]))]


def _dense(layer: Any, taken: Shape, _given: Shape) -> list[Use]:
    return [(layer.kernel, math.prod(taken) // int(taken[-1]))]


def _size(weight: Any) -> int:
    return math.prod(weight.shape)


def _shape(tensor: Any, layer: Any) -> Shape:
    shape: Shape = tuple(tensor.shape)[1:]
    if None in shape:
        raise BuildError(
            f"layer {layer.name!r} works on a size that is left open, {shape}",
            hint="give keras.Input the size of one sample",
            code="build.shape",
        )
    return shape


_USES: Final[tuple[tuple[tuple[type, ...], Uses], ...]] = (
    ((layers.SeparableConv1D, layers.SeparableConv2D), _separable),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
    ((layers.Dense,), _dense),
)
_FREE: Final = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.UnitNormalization,
    layers.Normalization,
    layers.PReLU,
    layers.Embedding,
)
_PRODUCTS: Final = frozenset(
    {"Dot", "Attention", "AdditiveAttention", "Matmul", "Einsum", "Tensordot", "Conv"}
)
"""Kinds without weights that multiply and accumulate nevertheless."""
