"""What neurons do on training samples, where they are taken: how large, and how often zero."""

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.pruning.channels import Role, Slice
from fleet_cloud.factory.pruning.dependencies import Dependencies, Group
from fleet_cloud.factory.pruning.scores import Scored, add_up, find_slices

Array = NDArray[Any]
SAMPLES: Final = 2048
BATCH: Final = 256


def mean_activation(model: Any, dependencies: Dependencies, groups: Sequence[Group], lab: Lab) -> Scored:
    """The mean absolute activation."""
    return _score(model, dependencies, groups, lab, np.abs)


def share_of_zeros(model: Any, dependencies: Dependencies, groups: Sequence[Group], lab: Lab) -> Scored:
    """One minus the average percentage of zeros (APoZ; Hu et al., 2016, equation 1). A group without any
    zero has no score: nothing tells its neurons apart."""
    scored = _score(model, dependencies, groups, lab, lambda activation: activation != 0)
    without = {
        name: "none of its neurons is ever zero" for name, one in scored.values.items() if one.min() == 1
    }
    values = {name: one for name, one in scored.values.items() if name not in without}
    return Scored(values, {**scored.without, **without})


def _score(model: Any, dependencies: Dependencies, groups: Sequence[Group], lab: Lab, measure: Any) -> Scored:
    """Return the mean of what is measured over samples, places, and those who take the channel."""
    takers = {group.name: _takers(model, dependencies, group) for group in groups}
    names = sorted({one.layer for some in takers.values() for one in some})
    means = _means(model, names, lab, measure)
    values: dict[str, Array] = {}
    for group in groups:
        sums = [add_up(group, one, means[one.layer]) for one in takers[group.name]]
        counts = [add_up(group, one, np.ones(len(one.channels))) for one in takers[group.name]]
        if sums:
            values[group.name] = np.sum(sums, axis=0) / np.sum(counts, axis=0)
    without = {group.name: "what takes its neurons cannot be looked at" for group in groups}
    return Scored(values, {name: why for name, why in without.items() if name not in values})


def _takers(model: Any, dependencies: Dependencies, group: Group) -> list[Slice]:
    found = find_slices(dependencies.slices, group, Role.TAKES)
    return [one for one in found if model.get_layer(one.layer).input.shape[-1] == len(one.channels)]


def _means(model: Any, names: Sequence[str], lab: Lab, measure: Any) -> dict[str, Array]:
    """Return, by layer, the means of a measure over all but the last axis of its input."""
    if not names:
        return {}
    tapped = keras.Model(model.inputs, [model.get_layer(name).input for name in names])
    forward = tf.function(lambda x: tapped(x, training=False), reduce_retracing=True)
    x = lab.draw(SAMPLES)
    sums: dict[str, Array] = dict.fromkeys(names, np.zeros(1))
    for begin in range(0, len(x), BATCH):
        given = keras.tree.flatten(forward(x[begin : begin + BATCH]))
        for name, activation in zip(names, given, strict=True):
            rows = np.asarray(activation).reshape(-1, activation.shape[-1])
            sums[name] = sums[name] + measure(rows).mean(axis=0) * (len(activation) / len(x))
    return sums
