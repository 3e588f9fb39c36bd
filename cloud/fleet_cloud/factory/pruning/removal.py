"""Channels removed for good: an ordinary, smaller Keras model, and what it will cost, beforehand."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.constraints import Constraint, Divisible
from fleet_cloud.factory.graph import Config, rebuild, remake
from fleet_cloud.factory.network import Network, array_of
from fleet_cloud.factory.operations import find_positions
from fleet_cloud.factory.pruning.channels import Labels
from fleet_cloud.factory.pruning.dependencies import Dependencies

Array = NDArray[Any]
Kept = dict[int, NDArray[np.int64]]
"""By axis: the indices that stay."""


class Costs:
    """What the model costs once channels are removed."""

    def __init__(self, model: Any, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._shapes = {str(weight.path): tuple(weight.shape) for weight in model.weights}
        self._positions = find_positions(model)

    def count_parameters(self, removed: Collection[int]) -> int:
        return sum(self._sizes(removed).values())

    def count_operations(self, removed: Collection[int]) -> int:
        """Multiply-accumulates, as `fleet_cloud.factory.operations` counts them."""
        sizes = self._sizes(removed)
        return sum(sizes[path] * positions for path, positions in self._positions.items())

    def _sizes(self, removed: Collection[int]) -> dict[str, int]:
        kept = find_kept(self._dependencies, removed)
        return {
            path: _product(len(kept.get(path, {}).get(axis, range(size))) for axis, size in enumerate(shape))
            for path, shape in self._shapes.items()
        }


def find_held(constraints: Mapping[str, Constraint]) -> dict[str, str]:
    """Return the weights whose constraints cannot be divided, with the reason."""
    return {
        path: f"its weights keep a constraint ({one.kind}): prune before that"
        for path, one in constraints.items()
        if not isinstance(one, Divisible)
    }


def remove(network: Network, dependencies: Dependencies, removed: Collection[int]) -> Network:
    """Return the network without these channels; the one given stays as it is.

    ``dependencies`` are those of the network's model. Where a channel is zero wherever it is taken, the
    outputs stay what they were. Raises `ValueError` if a layer would be left with none.
    """
    kept = find_kept(dependencies, removed)
    sizes = {one.layer: (one.key, _count(one.channels, removed)) for one in dependencies.sizes}
    if empty := [layer for layer, (_, size) in sizes.items() if not size]:
        raise ValueError(f"nothing would be left of {empty}")

    def make(layer: Any, config: Config) -> Any:
        if (size := sizes.get(str(layer.name))) is not None:
            config[size[0]] = _resize(config[size[0]], size[1])
        return remake(layer, config)

    def weigh(layer: Any) -> list[Array]:
        return [_take(array_of(weight), kept.get(str(weight.path), {})) for weight in layer.weights]

    return replace(
        network,
        model=rebuild(network.model, make, weigh),
        constraints={path: _divide(one, kept.get(path, {})) for path, one in network.constraints.items()},
        step_sizes={path: _take_size(one, kept.get(path, {})) for path, one in network.step_sizes.items()},
    )


def _take_size(size: Array, kept: Kept) -> Array:
    """A size of steps stands for all of an axis of length 1."""
    return _take(size, {axis: indices for axis, indices in kept.items() if size.shape[axis] > 1})


def find_kept(dependencies: Dependencies, removed: Collection[int]) -> dict[str, Kept]:
    """Return, by the path of each weight that gets smaller, what stays of it."""
    gone = _sorted(removed)
    kept: dict[str, Kept] = {}
    for one in dependencies.slices:
        stays = np.flatnonzero(~np.isin(one.channels, gone))
        if len(stays) < len(one.channels):
            kept.setdefault(one.path, {})[one.axis] = stays
    return kept


def _count(channels: Labels, removed: Collection[int]) -> int:
    return int((~np.isin(channels, _sorted(removed))).sum())


def _sorted(removed: Collection[int]) -> Labels:
    return np.array(sorted(removed), dtype=np.int64)


def _resize(entry: Any, size: int) -> Any:
    """A number, or the last number of a shape; -1 in a shape stays: it follows by itself."""
    if isinstance(entry, int):
        return size
    return (*entry[:-1], size if entry[-1] != -1 else -1)


def _take(array: Array, kept: Kept) -> Array:
    return reduce(lambda one, axis: np.take(one, kept[axis], axis), kept, array)


def _divide(constraint: Constraint, kept: Kept) -> Constraint:
    if not kept:
        return constraint
    if not isinstance(constraint, Divisible):
        raise TypeError(f"a constraint of kind {constraint.kind} cannot be divided")
    return constraint.take(kept)


def _product(numbers: Any) -> int:
    return int(np.prod(np.fromiter(numbers, dtype=np.int64)))
