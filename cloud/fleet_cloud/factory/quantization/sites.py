"""Where activations are rounded: after which layers of a graph a range stands.

The converter makes an op integer when all that it takes and gives has a range. A linear layer and its ReLU
are one op, and so are an addition and its ReLU: the range stands after them. What only moves values (pooling,
flatten, padding) has the scale of its input, and what is only concatenated has that of the whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras

from fleet_cloud.factory.graph import Node, read_graph
from fleet_cloud.factory.quantization.layers import ROUNDED

_SAME_SCALE: Final = frozenset(
    {
        "MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D", "GlobalMaxPooling1D",
        "GlobalMaxPooling2D", "Flatten", "Reshape", "Permute", "ZeroPadding1D", "ZeroPadding2D",
        "Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D", "Dropout", "SpatialDropout1D",
        "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization",
        "Identity",
    }
)  # fmt: skip
"""By name, as operations on tensors (``x + y``) have no class that one may import."""
_AVERAGES: Final = frozenset({"AveragePooling1D", "AveragePooling2D"})
_ENLARGING: Final = frozenset({"UpSampling2D"})
_JOINS: Final = frozenset({"Concatenate"})
_ARITHMETIC: Final = frozenset({"Add", "Subtract", "Multiply"})
"""TFLite computes a ReLU after them in the same op."""
_OWN_RANGE: Final = frozenset(
    {"GlobalAveragePooling1D", "GlobalAveragePooling2D", "ReLU", "LeakyReLU", "Activation", "InputLayer"}
)
"""Known as well: one op, with a range after it."""
_RELUS: Final = ("relu", "relu6")
PROBABILITIES: Final = (0.0, 255 / 256)
_FIXED: Final = {"sigmoid": PROBABILITIES, "softmax": PROBABILITIES, "tanh": (-1.0, 127 / 128)}
"""Ranges that TFLite prescribes for the outputs of these."""


@dataclass(frozen=True)
class Sites:
    """``ranges``: the layers after which a range stands, and the range if it is prescribed. ``rounded``: the
    layers whose weights are rounded. ``split``: those of them whose activation becomes an op of its own.
    ``floats``: the layers whose inside stays float."""

    ranges: Mapping[str, tuple[float, float] | None]
    rounded: frozenset[str]
    split: frozenset[str]
    floats: tuple[str, ...]


def find_sites(model: Any) -> Sites:
    """Return the sites of a functional model. Raises as `read_graph` does."""
    graph = read_graph(model)
    takers = _find_takers(graph, model)
    rounded = {name for name, node in graph.items() if _is_rounded(node.layer)}
    split = {name for name in rounded if name_activation(graph[name].layer) not in ("linear", *_RELUS)}
    ranges = {name: _fixed(node.layer) for name, node in graph.items() if _has_range(graph, node, takers)}
    known = _SAME_SCALE | _JOINS | _ARITHMETIC | _OWN_RANGE
    floats = [name for name, node in graph.items() if _kind(node.layer) not in known and name not in rounded]
    return Sites(ranges, frozenset(rounded), frozenset(split), tuple(floats))


def keeps_scale(layer: Any) -> bool:
    """Tell whether what a layer gives has the scale of what it takes, so that no range stands after it."""
    return _kind(layer) in _SAME_SCALE


def is_average(layer: Any) -> bool:
    """Tell whether a layer makes values on the scale of its input that were not there: they are rounded."""
    return _kind(layer) in _AVERAGES or enlarges(layer)


def enlarges(layer: Any) -> bool:
    """Tell whether a layer puts averages of neighbours between them."""
    return _kind(layer) in _ENLARGING and layer.interpolation != "nearest"


def name_activation(layer: Any) -> str:
    """Return the name of a layer's activation, ``linear`` where it has none."""
    if isinstance(layer, keras.layers.ReLU):
        limits = (layer.max_value, float(layer.negative_slope), float(layer.threshold))
        return {(None, 0.0, 0.0): "relu", (6.0, 0.0, 0.0): "relu6"}.get(limits, "other")
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else str(getattr(activation, "__name__", "other"))


def _find_takers(graph: Mapping[str, Node], model: Any) -> dict[str, tuple[str, ...]]:
    """Return by layer who takes its output; an output of the model has a taker without a name."""
    takers: dict[str, tuple[str, ...]] = dict.fromkeys(graph, ())
    for node in graph.values():
        for source in node.sources:
            takers[source] = (*takers[source], node.name)
    for tensor in model.outputs:
        takers[tensor._keras_history.operation.name] += ("",)  # noqa: SLF001  the only way
    return takers


def _is_rounded(layer: Any) -> bool:
    if type(layer) not in ROUNDED or getattr(layer, "data_format", "channels_last") != "channels_last":
        return False
    return getattr(layer, "padding", "valid") != "causal"


def _has_range(graph: Mapping[str, Node], node: Node, takers: Mapping[str, Sequence[str]]) -> bool:
    """Whether a layer's output is rounded to a range of its own."""
    layer, taken_by = node.layer, takers[node.name]
    if _kind(layer) in _SAME_SCALE:
        return False
    if isinstance(layer, keras.layers.InputLayer) or len(taken_by) != 1 or not taken_by[0]:
        return True
    taker = graph[taken_by[0]].layer
    if _kind(taker) in _JOINS and _kind(layer) not in _JOINS:
        return _fixed(layer) is not None or not (_is_linear_op(layer) or _is_relu(layer))
    return not (_is_relu(taker) and _is_linear_op(layer) and name_activation(layer) == "linear")


def _is_linear_op(layer: Any) -> bool:
    return _is_rounded(layer) or _kind(layer) in _ARITHMETIC


def _is_relu(layer: Any) -> bool:
    return _kind(layer) in ("ReLU", "Activation") and name_activation(layer) in _RELUS


def _fixed(layer: Any) -> tuple[float, float] | None:
    return _FIXED.get(name_activation(layer))


def _kind(layer: Any) -> str:
    return type(layer).__name__
