"""Fold batch normalization into the linear layer before it, as inference computes it.

    y = gamma * (w x + b - mean) / sqrt(variance + epsilon) + beta  =  (f w) x + (beta + (b - mean) f)

with f = gamma / sqrt(variance + epsilon), for each output channel. Whatever gives weights few values
comes after it: scaling them afterwards would give each channel values of its own.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.constraints import Constraint, Scalable
from fleet_cloud.factory.graph import Config, Node, read_graph, rebuild, remake
from fleet_cloud.factory.network import Network, array_of

Array = NDArray[Any]

_LAYERS: Final = keras.layers
_LINEAR: Final = (
    _LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Conv3D, _LAYERS.Conv1DTranspose, _LAYERS.Conv2DTranspose,
    _LAYERS.DepthwiseConv1D, _LAYERS.DepthwiseConv2D, _LAYERS.SeparableConv1D, _LAYERS.SeparableConv2D,
    _LAYERS.Dense,
)  # fmt: skip
_SWAPPED: Final = (_LAYERS.Conv1DTranspose, _LAYERS.Conv2DTranspose)
"""Their kernels are (.., out, in)."""
_DEPTHWISE: Final = (_LAYERS.DepthwiseConv1D, _LAYERS.DepthwiseConv2D)
"""Their kernels are (.., in, multiplier), output channels in this order."""
_SEPARABLE: Final = (_LAYERS.SeparableConv1D, _LAYERS.SeparableConv2D)


def _kernel_of(linear: Any) -> Any:
    """Return the variable whose last step makes the output channels."""
    return linear.pointwise_kernel if isinstance(linear, _SEPARABLE) else linear.kernel


@dataclass(frozen=True)
class _Fold:
    """A linear layer and the batch normalization that only takes its output."""

    linear: Any
    norm: Any

    @property
    def kernel(self) -> Any:
        return _kernel_of(self.linear)

    @property
    def factor(self) -> Array:
        """By output channel."""
        gamma = 1.0 if self.norm.gamma is None else array_of(self.norm.gamma)
        return np.asarray(gamma / np.sqrt(array_of(self.norm.moving_variance) + self.norm.epsilon))

    @property
    def bias(self) -> Array:
        bias = 0.0 if self.linear.bias is None else array_of(self.linear.bias)
        beta = 0.0 if self.norm.beta is None else array_of(self.norm.beta)
        return np.asarray(beta + (bias - array_of(self.norm.moving_mean)) * self.factor)

    @property
    def kernel_factor(self) -> Array:
        """The factor in a shape that broadcasts to the kernel."""
        shape = self.kernel.shape
        if isinstance(self.linear, _DEPTHWISE):
            return self.factor.reshape(shape[-2:])
        return self.factor[:, np.newaxis] if isinstance(self.linear, _SWAPPED) else self.factor

    @property
    def step_size(self) -> Array:
        """What 1 becomes in each channel of the kernel, but at most 1: no step gets larger than it was."""
        size = np.abs(self.kernel_factor)
        size = np.clip(np.where(size > 0, size, 1.0), None, 1.0)
        return np.asarray(size, np.float32).reshape((1,) * (len(self.kernel.shape) - size.ndim) + size.shape)

    @property
    def weights(self) -> list[Array]:
        """Those of the folded layer. A separable layer's last kernel is the pointwise one."""
        kernels = [array_of(weight) for weight in self.linear.weights if weight is not self.linear.bias]
        return [*kernels[:-1], kernels[-1] * self.kernel_factor, self.bias]


def fold_batch_norm(network: Network) -> Network:
    """Return the network without the batch normalization that follows a convolution, depthwise or dense
    layer directly; the layers that remain keep their names, a folded one has a bias. Training goes on with
    steps that shrink as the kernels do, and never grow (``step_sizes``).

    Batch normalization that follows anything else stays. Raises `BuildError` (``build.constraint``) when
    a constraint of a weight would not hold any more.
    """
    folds = {fold.norm.name: fold for fold in _find(network.model)}
    if not folds:
        return network
    model = _rebuild(network.model, folds)
    return replace(
        network,
        model=model,
        constraints=_scale(network.constraints, list(folds.values())),
        step_sizes=_shrink(network.step_sizes, model, list(folds.values())),
    )


def _shrink(before: Mapping[str, Array], model: Any, folds: list[_Fold]) -> dict[str, Array]:
    """Return the sizes of steps by the paths of the folded ``model``."""
    sizes = dict(before)
    for fold in folds:
        path = _kernel_of(model.get_layer(fold.linear.name)).path
        sizes[path] = fold.step_size * sizes.get(path, np.float32(1))
    return sizes


def _find(model: Any) -> list[_Fold]:
    graph = read_graph(model)
    takers = Counter(source for node in graph.values() for source in node.sources)
    takers.update(tensor._keras_history.operation.name for tensor in model.outputs)  # noqa: SLF001
    return [
        _Fold(graph[node.sources[0]].layer, node.layer)
        for node in graph.values()
        if isinstance(node.layer, _LAYERS.BatchNormalization) and _folds(graph, node, takers)
    ]


def _folds(graph: Mapping[str, Node], norm: Node, takers: Mapping[str, int]) -> bool:
    layer = graph[norm.sources[0]].layer
    if not isinstance(layer, _LINEAR) or takers[layer.name] > 1:
        return False
    last = norm.layer.axis in (-1, len(layer.output.shape) - 1)
    channels_last = getattr(layer, "data_format", "channels_last") == "channels_last"
    return layer.activation is keras.activations.linear and last and channels_last


def _rebuild(model: Any, folds: Mapping[str, _Fold]) -> Any:
    """``folds``: by the name of the batch normalization."""
    linear = {fold.linear.name: fold for fold in folds.values()}

    def make(layer: Any, config: Config) -> Any:
        return remake(layer, {**config, "use_bias": True} if layer.name in linear else config)

    def weigh(layer: Any) -> list[Array]:
        if layer.name in folds:
            return []
        fold = linear.get(layer.name)
        return list(layer.get_weights()) if fold is None else fold.weights

    def call(own: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if own.name in folds else own(*args, **kwargs)

    return rebuild(model, make, weigh, call)


def _scale(constraints: Mapping[str, Constraint], folds: list[_Fold]) -> dict[str, Constraint]:
    scaled = dict(constraints)
    for fold in folds:
        for weight in (fold.kernel, fold.linear.bias, *fold.norm.weights):
            if weight is None or (constraint := scaled.get(weight.path)) is None:
                continue
            if weight is not fold.kernel or not isinstance(constraint, Scalable):
                raise BuildError(
                    f"{weight.path} is constrained ({constraint.kind}), which would not hold any more when "
                    f"batch normalization {fold.norm.name!r} is folded into {fold.linear.name!r}",
                    hint="quantize or cluster after batch normalization was folded",
                    code="build.constraint",
                )
            scaled[weight.path] = constraint.scale(fold.kernel_factor)
    return scaled
