"""What each kind of layer does with the labels of its channels.

A rule takes the labels of a call's inputs and returns those of its output. What is not here is not guessed
at: `find_rule` says that there is none, and the channels that such a layer touches stay.
"""

from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, Final

import keras
import numpy as np
from keras import activations, layers

from fleet_cloud.factory.graph import Call
from fleet_cloud.factory.pruning.channels import Channels, Labels, Role

Rule = Callable[[Channels, Call, Sequence[Labels]], Labels]


class Unsupported(Exception):
    """The layer does with its channels what no rule follows. Its text completes "left alone: ..."."""


def find_rule(call: Call) -> Rule:
    """Return the rule for what is called; raise `Unsupported` if there is none."""
    layer = call.layer
    if not isinstance(layer, keras.Layer):
        rule = _OPERATIONS.get(type(layer).__name__)
    else:
        rule = next((rule for kinds, rule in _LAYERS if isinstance(layer, kinds)), None)
    if rule is None or len(call.outputs) != 1:
        raise Unsupported(f"{type(layer).__name__} is not known to pruning")
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise Unsupported("its channels come first")
    if not all(isinstance(one, (int, float, str, np.generic, NoneType)) for one in call.constants):
        raise Unsupported("it takes a constant array")
    return rule


def _convolve(channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    layer = call.layer
    if layer.groups != 1:
        raise Unsupported("a convolution in groups")
    return _make(channels, layer, taken[0], inputs=-2, outputs=-1)


def _transpose(channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    return _make(channels, call.layer, taken[0], inputs=-1, outputs=-2)


def _make(channels: Channels, layer: Any, taken: Labels, inputs: int, outputs: int) -> Labels:
    """A kernel with these axes for the channels that it takes and makes."""
    made = channels.give(layer.kernel.shape[outputs])
    channels.attach(layer, layer.kernel, inputs, taken, Role.TAKES)
    return _finish(channels, layer, layer.kernel, outputs, made)


def _finish(channels: Channels, layer: Any, kernel: Any, outputs: int, made: Labels) -> Labels:
    channels.attach(layer, kernel, outputs, made, Role.MAKES)
    if layer.use_bias:
        channels.attach(layer, layer.bias, 0, made, Role.FOLLOWS)
    channels.size(layer, "units" if isinstance(layer, layers.Dense) else "filters", made)
    if not _is_elementwise(layer.activation):
        channels.keep(made, f"{layer.name!r} compares them ({_name(layer.activation)})")
    return made


def _connect(channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    return _make(channels, call.layer, taken[0], inputs=0, outputs=1)


def _separate(channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    layer = call.layer
    between = np.repeat(taken[0], layer.depth_multiplier)
    made = channels.give(layer.filters)
    channels.attach(layer, layer.depthwise_kernel, -2, taken[0], Role.FOLLOWS)
    channels.attach(layer, layer.pointwise_kernel, -2, between, Role.TAKES)
    return _finish(channels, layer, layer.pointwise_kernel, -1, made)


def _filter_each(channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    """Depthwise: input channel c gives the outputs c * multiplier and those after it."""
    layer = call.layer
    given = np.repeat(taken[0], layer.depth_multiplier)
    channels.attach(layer, layer.kernel, -2, taken[0], Role.FOLLOWS)
    if layer.use_bias:
        channels.attach(layer, layer.bias, 0, given, Role.FOLLOWS)
    if not _is_elementwise(layer.activation):
        raise Unsupported(f"it compares channels ({_name(layer.activation)})")
    return given


def _normalize(channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    layer = call.layer
    if layer.axis not in (-1, len(call.inputs[0].shape) - 1):
        raise Unsupported("it normalises over another axis than the channels'")
    for weight in layer.weights:
        role = Role.SCALES if weight is layer.gamma else Role.FOLLOWS
        channels.attach(layer, weight, 0, taken[0], role)
    return taken[0]


def _slope(channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    alpha = call.layer.alpha
    if alpha.shape[-1] == len(taken[0]):
        channels.attach(call.layer, alpha, -1, taken[0], Role.FOLLOWS)
    return taken[0]


def _carry(_channels: Channels, _call: Call, taken: Sequence[Labels]) -> Labels:
    return taken[0]


def _activate(_channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    if not _is_elementwise(call.layer.activation):
        raise Unsupported(f"it compares channels ({_name(call.layer.activation)})")
    return taken[0]


def _rescale(_channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    if np.ndim(call.layer.scale) or np.ndim(call.layer.offset):
        raise Unsupported("it has a scale of its own for each channel")
    return taken[0]


def _permute(_channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    if call.layer.dims[-1] != len(call.layer.dims):
        raise Unsupported("it moves the axis of the channels")
    return taken[0]


def _couple(channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    """Tensors that meet element by element. A single channel may meet many: it is broadcast."""
    widest: Labels = max(taken, key=len)
    for labels in taken:
        if len(labels) == len(widest):
            channels.unite(widest, labels)
        else:
            channels.keep(labels, f"one channel meets many in {call.layer.name!r}")
    return widest


def _concatenate(channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    if call.layer.axis in (-1, len(call.inputs[0].shape) - 1):
        return np.concatenate(taken)
    return _couple(channels, call, taken)


def _reshape(channels: Channels, call: Call, taken: Sequence[Labels]) -> Labels:
    """The channel is what changes fastest in memory: a last axis that is a multiple of the old one repeats
    its labels."""
    (labels,), size = taken, call.outputs[0].shape[-1]
    if size is None or size % len(labels):
        raise Unsupported("it splits channels")
    given = np.tile(labels, size // len(labels))
    if isinstance(call.layer, layers.Reshape):
        channels.size(call.layer, "target_shape", given)
    return given


def _is_elementwise(activation: Any) -> bool:
    return activation in _ELEMENTWISE


def _name(activation: Any) -> str:
    return str(getattr(activation, "__name__", type(activation).__name__))


_ELEMENTWISE: Final = frozenset(
    {
        activations.celu,
        activations.elu,
        activations.exponential,
        activations.gelu,
        activations.hard_shrink,
        activations.hard_sigmoid,
        activations.hard_silu,
        activations.hard_tanh,
        activations.leaky_relu,
        activations.linear,
        activations.log_sigmoid,
        activations.mish,
        activations.relu,
        activations.relu6,
        activations.selu,
        activations.sigmoid,
        activations.silu,
        activations.soft_shrink,
        activations.softplus,
        activations.softsign,
        activations.squareplus,
        activations.tanh,
        activations.tanh_shrink,
        activations.threshold,
    }
)
_LAYERS: Final[tuple[tuple[tuple[type, ...], Rule], ...]] = (
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _filter_each),
    ((layers.SeparableConv1D, layers.SeparableConv2D), _separate),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transpose),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolve),
    ((layers.Dense,), _connect),
    ((layers.BatchNormalization,), _normalize),
    ((layers.PReLU,), _slope),
    ((layers.Activation,), _activate),
    ((layers.Rescaling,), _rescale),
    ((layers.Permute,), _permute),
    ((layers.Concatenate,), _concatenate),
    ((layers.Flatten, layers.Reshape), _reshape),
    (
        (layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum),
        _couple,
    ),
    (
        (
            *(layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Identity, layers.ActivityRegularization),
            *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
            *(layers.GaussianDropout, layers.GaussianNoise, layers.AlphaDropout, layers.RepeatVector),
            *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
            *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
            *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
            *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
            *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
            *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
            *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
        ),
        _carry,
    ),
)
_OPERATIONS: Final[dict[str, Rule]] = {
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Maximum", "Minimum"), _couple),
    **dict.fromkeys(
        (
            *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "HardSilu"),
            *("Sigmoid", "HardSigmoid", "LogSigmoid", "Tanh", "HardTanh", "Softplus", "Softsign"),
            *("Abs", "Absolute", "Square", "Negative", "Exp", "Sqrt"),
        ),
        _carry,
    ),
}
"""Functions of `keras.ops`, by the name of their class."""
