"""How much each channel of a group matters: the lowest are removed first.

A channel is made, scaled and taken by several weights. By size (`magnitude`, `geometric_median`), what each
of them says is divided by its mean over the group, so that none outweighs the others and groups can be
compared, and the mean over them is the score (Fang et al., 2023, section 3.3, with mean for both). The other
scores are in units of their own that all groups share, and are not divided.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import array_of, weights_of
from fleet_cloud.factory.objective import Hard
from fleet_cloud.factory.pruning.channels import Role, Slice
from fleet_cloud.factory.pruning.dependencies import Dependencies, Group

Array = NDArray[Any]
TAYLOR_SAMPLES: Final = 1024
TAYLOR_BATCH: Final = 64


@dataclass(frozen=True)
class Scored:
    """``values``: by the name of the group, in the order of its channels; ``without``: groups that have no
    score, with the reason."""

    values: dict[str, Array]
    without: dict[str, str] = field(default_factory=dict)


Scorer = Callable[[Any, Dependencies, Sequence[Group], Lab], Scored]
"""From a model, its dependencies, the groups to score, and the data."""


def by_magnitude(power: int) -> Scorer:
    """L1 (Li et al., 2017) or L2 norms of what makes, scales and takes a channel."""

    def score(model: Any, dependencies: Dependencies, groups: Sequence[Group], _lab: Lab) -> Scored:
        weights = _Weights(model, dependencies)
        return Scored({group.name: _mean(weights.norms(group, power)) for group in groups})

    return score


def geometric_median(model: Any, dependencies: Dependencies, groups: Sequence[Group], _lab: Lab) -> Scored:
    """The sum of a filter's distances to all filters of its layer: what is near the geometric median can be
    stood in for by the others (He et al., 2019, equation 8)."""
    weights = _Weights(model, dependencies)
    return Scored({group.name: _mean(weights.distances(group)) for group in groups})


def batch_norm(model: Any, dependencies: Dependencies, groups: Sequence[Group], _lab: Lab) -> Scored:
    """The mean of the absolute factors of the batch normalisations (Liu et al., 2017)."""
    weights = _Weights(model, dependencies)
    scales = {group.name: weights.scales(group) for group in groups}
    return Scored(
        {name: np.mean(found, axis=0) for name, found in scales.items() if found},
        {name: "no batch normalisation scales it" for name, found in scales.items() if not found},
    )


def taylor(model: Any, dependencies: Dependencies, groups: Sequence[Group], lab: Lab) -> Scored:
    """The squared first-order change of the loss if a channel is taken from all who take it, a mean over
    batches of training samples (Molchanov et al., 2019, equations 7 and 8).

    A kernel is linear in what it takes: the sum of weight x gradient over the inputs of a channel is what
    the loss would lose with that channel, whatever stands between its makers and its takers.
    """
    weights = _Weights(model, dependencies)
    kernels = [one.path for one in dependencies.slices if one.role is Role.TAKES]
    values: dict[str, Array] = {group.name: np.zeros(len(group.channels)) for group in groups}
    batches = _products(model, kernels, lab)
    for products in batches:
        for group in groups:
            values[group.name] += weights.changes(group, products) ** 2 / len(batches)
    return Scored(values)


def _products(model: Any, paths: Sequence[str], lab: Lab) -> list[dict[str, Array]]:
    """Return weight x gradient of the mean loss of each batch, by the path of the weight."""
    if lab.train.y is None:
        raise BuildError(
            "the score taylor needs labels, and the samples have none",
            hint="choose l2 or geometric-median",
            code="build.labels",
        )
    variables = [weights_of(model)[path] for path in paths]
    objective, products = Hard(lab.task), []
    order = np.random.default_rng(lab.seed).permutation(len(lab.train))[:TAYLOR_SAMPLES]
    for begin in range(0, len(order), TAYLOR_BATCH):
        rows = np.sort(order[begin : begin + TAYLOR_BATCH])
        x, y = tf.convert_to_tensor(lab.real(lab.train.x[rows])), np.asarray(lab.train.y)[rows]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            values = [variable.value for variable in variables]
            tape.watch(values)
            loss = objective(x, tf.convert_to_tensor(y), model(x, training=False), ())
        gradients = tape.gradient(loss, values)
        products.append(
            {
                path: array_of(variable) * np.asarray(gradient)
                for path, variable, gradient in zip(paths, variables, gradients, strict=True)
            }
        )
    return products


def _mean(members: Sequence[Array]) -> Array:
    """The mean of the members, each divided by its own mean; a member of zeros says nothing."""
    means = [member.mean() or 1.0 for member in members]
    shares = [member / mean for member, mean in zip(members, means, strict=True)]
    return np.asarray(np.mean(shares, axis=0))


class _Weights:
    """The arrays of a model by what they have to do with a group's channels."""

    def __init__(self, model: Any, dependencies: Dependencies) -> None:
        self._arrays = {path: array_of(weight) for path, weight in weights_of(model).items()}
        self._slices = dependencies.slices

    def norms(self, group: Group, power: int) -> list[Array]:
        roles = (Role.MAKES, Role.SCALES, Role.TAKES)
        return [
            add_up(group, one, (np.abs(_rows(self._arrays[one.path], one.axis)) ** power).sum(axis=1))
            ** (1 / power)
            for one in self._of(group, *roles)
        ]

    def distances(self, group: Group) -> list[Array]:
        return [
            add_up(group, one, _distances(_rows(self._arrays[one.path], one.axis)))
            for one in self._of(group, Role.MAKES)
        ]

    def scales(self, group: Group) -> list[Array]:
        return [add_up(group, one, np.abs(self._arrays[one.path])) for one in self._of(group, Role.SCALES)]

    def changes(self, group: Group, products: dict[str, Array]) -> Array:
        """Return by channel the sum of the products over all that takes it."""
        taken = self._of(group, Role.TAKES)
        sums = [add_up(group, one, _rows(products[one.path], one.axis).sum(axis=1)) for one in taken]
        return np.asarray(sum(sums, np.zeros(len(group.channels))))

    def _of(self, group: Group, *roles: Role) -> list[Slice]:
        return find_slices(self._slices, group, *roles)


def find_slices(slices: Sequence[Slice], group: Group, *roles: Role) -> list[Slice]:
    """Return the slices of these roles that have to do with the group."""
    return [one for one in slices if one.role in roles and np.isin(one.channels, group.channels).any()]


def add_up(group: Group, one: Slice, values: Array) -> Array:
    """Return, in the order of the group's channels, the sums of what is given for each index of a slice."""
    order = {channel: position for position, channel in enumerate(group.channels)}
    sums = np.zeros(len(group.channels))
    for channel, value in zip(one.channels.tolist(), values.tolist(), strict=True):
        if channel in order:
            sums[order[channel]] += value
    return sums


def _rows(array: Array, axis: int) -> Array:
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype(np.float64)


def _distances(rows: Array) -> Array:
    squares = (rows**2).sum(axis=1)
    between = squares[:, None] + squares[None, :] - 2 * rows @ rows.T
    np.fill_diagonal(between, 0)
    distances: Array = np.sqrt(np.maximum(between, 0)).sum(axis=1)
    return distances
