"""The network that rounds as its int8 file will: built, calibrated, ready to be trained and converted.

Batch normalization is folded, weights are rounded by channel, and every boundary of an op has a range, so
that nothing stays float. The converter takes scales from the ranges and needs no samples.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from fleet_cloud.factory.graph import Config, Node, flatten, read_graph, rebuild, remake
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network, Precision, array_of, copy_model
from fleet_cloud.factory.quantization.folding import fold_batch_norm
from fleet_cloud.factory.quantization.layers import ROUNDED, Rounded, Rounding, RoundingAgain
from fleet_cloud.factory.quantization.samples import require_samples
from fleet_cloud.factory.quantization.sites import (
    PROBABILITIES,
    Sites,
    enlarges,
    find_sites,
    is_average,
    keeps_scale,
)

RANGE: Final = "range"
"""What a range is called after the layer whose output it rounds: ``conv_range``."""
BATCH: Final = 64


@dataclass(frozen=True)
class Aware:
    """``network`` rounds. ``floats``: the layers that stay float inside, for their kind is not known."""

    network: Network
    floats: tuple[str, ...]


def make_aware(
    network: Network,
    lab: Lab,
    calibration_samples: int,
    per_channel_dense: bool = True,
) -> Aware:
    """Return the network that rounds, its ranges those of training samples.

    Raises `BuildError`: ``build.samples`` without samples, ``build.graph`` and ``build.constraint`` for a
    network that cannot be folded.
    """
    require_samples(lab, "int8")
    folded = fold_batch_norm(network.with_model(flatten(network.model)))
    sites = find_sites(folded.model)
    model = _Inserter(folded.model, sites, per_channel_dense).insert()
    _calibrate(model, lab, calibration_samples)
    precision = Precision(
        "int8",
        aware=True,
        per_channel_dense=per_channel_dense,
        calibration_samples=calibration_samples,
    )
    return Aware(replace(folded, model=model, precision=precision), sites.floats)


class _Inserter:
    """Makes the model again with layers that round."""

    def __init__(self, model: Any, sites: Sites, per_channel_dense: bool) -> None:
        self._model, self._sites, self._per_channel_dense = model, sites, per_channel_dense
        self._inputs: dict[str, Any] = {}

    def insert(self) -> Any:
        return rebuild(self._model, self._make, call=self._call)

    def _make(self, layer: Any, config: Config) -> Any:
        if layer.name not in self._sites.rounded:
            return remake(layer, config)
        if layer.name in self._sites.split:
            config["activation"] = "linear"
        if isinstance(layer, keras.layers.Dense):
            config["per_channel"] = self._per_channel_dense
        return ROUNDED[type(layer)].from_config(config)

    def _call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        output = layer(*keras.tree.map_structure(self._round_input, args), **kwargs)
        if layer.name in self._sites.split:
            output = Rounding(name=f"{layer.name}_linear_{RANGE}")(output)
            activation = self._model.get_layer(layer.name).activation
            output = keras.layers.Activation(activation, name=f"{layer.name}_activation")(output)
        return self._round_average(output) if is_average(layer) else self._round(layer.name, output)

    def _round_average(self, output: Any) -> Any:
        """Return what an average makes of rounded values as TFLite does, on their scale."""
        layer = output._keras_history.operation  # noqa: SLF001
        before = layer
        while keeps_scale(before):
            before = before.input._keras_history.operation  # noqa: SLF001
        if not isinstance(before, Rounding):
            return output
        again = RoundingAgain(enlarges(layer), fixed=before.fixed, name=f"{layer.name}_{RANGE}")
        return again([output, before.ranged])

    def _round_input(self, given: Any) -> Any:
        """Return an argument of a layer; an input of the model is rounded once, for all that take it."""
        maker = given._keras_history.operation if isinstance(given, keras.KerasTensor) else None  # noqa: SLF001
        if not isinstance(maker, keras.layers.InputLayer):
            return given
        if maker.name not in self._inputs:
            self._inputs[maker.name] = self._round(maker.name, given)
        return self._inputs[maker.name]

    def _round(self, name: str, output: Any) -> Any:
        if name not in self._sites.ranges:
            return output
        return Rounding(self._sites.ranges[name], name=f"{name}_{RANGE}")(output)


def roundings_of(model: Any) -> list[Rounding]:
    """Return the ranges of a network that rounds, in order."""
    return [layer for layer in model.layers if isinstance(layer, Rounding)]


def rounded_of(model: Any) -> list[Any]:
    """Return the linear layers of a network that rounds, in order."""
    return [layer for layer in model.layers if isinstance(layer, Rounded)]


def switch(model: Any, active: bool) -> None:
    """Let everything in a network round, or nothing. What was traced before does not see it."""
    for layer in (*roundings_of(model), *rounded_of(model)):
        layer.active = active


def _calibrate(model: Any, lab: Lab, count: int) -> None:
    """Set the ranges to the smallest and largest values that training samples cause without rounding."""
    free = [layer for layer in roundings_of(model) if layer.fixed is None]
    probe = keras.Model(model.input, [layer.ranged for layer in free])

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def look(x: Any) -> Any:
        found = keras.tree.flatten(probe(x, training=False))
        return [tf.reduce_min(one) for one in found], [tf.reduce_max(one) for one in found]

    switch(model, active=False)
    try:
        samples = lab.draw(count)
        seen = [look(samples[begin : begin + BATCH]) for begin in range(0, len(samples), BATCH)]
    finally:
        switch(model, active=True)
    lows = np.min([[float(one) for one in low] for low, _ in seen], axis=0)
    highs = np.max([[float(one) for one in high] for _, high in seen], axis=0)
    for layer, low, high in zip(free, lows, highs, strict=True):
        layer.low.assign(min(low, 0.0))
        layer.high.assign(max(high, 0.0))


def keep_float(network: Network, layers: Collection[str]) -> Network:
    """Return a network that rounds, but for these layers: neither their weights nor what they give.

    What takes it is computed in float as well: the converter makes an op integer whenever it finds ranges
    before and after it. The range of the model's input stays.
    """
    model = copy_model(network.model)
    for name in layers:
        model.get_layer(name).active = False
        for after in ranges_after(model, name):
            after.active = False
    return replace(
        network, model=copy_model(model), precision=replace(network.precision, keep_float=tuple(layers))
    )


def ranges_after(model: Any, name: str) -> list[Rounding]:
    """Return the ranges that a linear layer's output comes to first; none behind a concatenation, which has
    the range of all that comes together in it."""
    graph = read_graph(model)
    found: list[Rounding] = []
    for node in graph.values():
        if name not in node.sources:
            continue
        if isinstance(node.layer, Rounding):
            found.append(node.layer)
        elif not isinstance(node.layer, (Rounded, keras.layers.Concatenate)):
            found += ranges_after(model, node.name)
    return found


def settle_biases(network: Network) -> Network:
    """Return a network that was trained with rounding, its biases as the file has them: multiples of the step
    of a layer's inputs x that of its weights.

    What they are off by is little, a thousandth of a step of the outputs. But it takes some values over to
    the next step, each of which takes more over in the next layer: without this a ResNet8's logits were off
    by a step on average, with it by a sixth.
    """
    model = copy_model(network.model)
    graph = read_graph(model)
    for node in graph.values():
        source = find_range(graph, node)
        if isinstance(node.layer, Rounded) and node.layer.use_bias and source is not None:
            step = source.step * array_of(node.layer.steps).ravel()
            node.layer.bias.assign(np.rint(array_of(node.layer.bias) / step) * step)
    return network.with_model(model)


def find_range(graph: Mapping[str, Node], node: Node) -> Rounding | None:
    """Return the range of what a layer takes; none where that is float."""
    source = graph[node.sources[0]] if node.sources else None
    while source is not None and keeps_scale(source.layer):
        source = graph[source.sources[0]]
    layer = None if source is None else source.layer
    return layer if isinstance(layer, Rounding) and layer.active else None


def settle_weights(model: Any) -> Any:
    """Return a network that rounds with its weights rounded once and for all, and its averages no more. The
    converter finds the same scales for them: the largest weight of a channel is exact."""
    settled = copy_model(model)
    for layer in rounded_of(settled):
        layer.kernel.assign(layer.rounded)
        layer.active = False
    for again in roundings_of(settled):
        again.active = again.active and not isinstance(again, RoundingAgain)
    return settled


def round_probabilities(model: Any) -> Any:
    """Return a model that ends in softmax with the range that TFLite prescribes after it."""
    return keras.Model(model.input, Rounding(PROBABILITIES, name=f"probabilities_{RANGE}")(model.output))
