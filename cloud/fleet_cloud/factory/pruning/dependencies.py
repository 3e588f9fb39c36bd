"""Dependency analysis of a Keras graph: which channels go together, and which may go at all.

Follows the idea of dependency graphs for any structural pruning (Fang et al., 2023), here with labels that
flow with the tensors (`fleet_cloud.factory.pruning.channels`). The channels of the model's inputs and
outputs stay, and so do all that a layer touches which no rule follows; that layer is named.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import keras
import numpy as np

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.graph import Call, read_calls
from fleet_cloud.factory.pruning.channels import Channels, Labels, Role, Size, Slice
from fleet_cloud.factory.pruning.rules import Unsupported, find_rule

Kind = Literal["filters", "neurons"]

_NONE: Final[Labels] = np.array([], dtype=np.int64)


@dataclass(frozen=True)
class Group:
    """Channels that the same layers make: what a person calls the width of those layers. ``channels`` are in
    the order in which the first of ``makers`` makes them."""

    name: str
    kind: Kind
    makers: tuple[str, ...]
    channels: tuple[int, ...]


@dataclass(frozen=True)
class Dependencies:
    """``left_alone``: by layer, why nothing of it is removed. ``unsupported``: those of them that no rule
    follows and that hold something back: weights of their own, or channels that a layer makes."""

    slices: tuple[Slice, ...]
    sizes: tuple[Size, ...]
    groups: tuple[Group, ...]
    left_alone: Mapping[str, str]
    unsupported: tuple[str, ...] = ()

    def of_kind(self, kind: Kind) -> "tuple[Group, ...]":
        return tuple(group for group in self.groups if group.kind == kind)


def analyse(model: Any, skip: Collection[str] = (), held: Mapping[str, str] | None = None) -> Dependencies:
    """Return what hangs together in a functional model without models inside.

    ``skip``: layers, by name, whose own channels stay. ``held``: weights, by path, that cannot be made
    smaller, with the reason. Raises `BuildError` (``build.layer``) for a name in ``skip`` that is not there.
    """
    calls = read_calls(model)
    _check_names(skip, calls)
    channels = Channels()
    left_alone, touched = _flow(calls, model, channels)
    for one in channels.slices:
        if one.layer in skip and one.role is Role.MAKES:
            channels.keep(one.channels, "the recipe skips it")
        if one.path in (held or {}):
            channels.keep(one.channels, (held or {})[one.path])
    kept = channels.get_kept()
    slices = tuple(replace(one, channels=channels.resolve(one.channels)) for one in channels.slices)
    sizes = tuple(replace(one, channels=channels.resolve(one.channels)) for one in channels.sizes)
    for one in slices:
        if one.role is Role.MAKES and all(channel in kept for channel in one.channels.tolist()):
            left_alone.setdefault(one.layer, kept[int(one.channels[0])])
    made = {channel for one in slices if one.role is Role.MAKES for channel in one.channels.tolist()}
    learning = {str(call.layer.name) for call in calls if getattr(call.layer, "trainable_weights", None)}
    unsupported = tuple(
        name
        for name, labels in touched.items()
        if name in learning or not made.isdisjoint(channels.resolve(labels).tolist())
    )
    dense = {str(call.layer.name) for call in calls if isinstance(call.layer, keras.layers.Dense)}
    return Dependencies(slices, sizes, _group(slices, kept, dense), left_alone, unsupported)


def _flow(calls: list[Call], model: Any, channels: Channels) -> tuple[dict[str, str], dict[str, Labels]]:
    """Label every tensor; return the layers that no rule follows, with the reason, and with the labels that
    they take and give."""
    labels: dict[int, Labels] = {}
    left_alone: dict[str, str] = {}
    touched: dict[str, Labels] = {}
    times = Counter(id(call.layer) for call in calls)
    for call in calls:
        taken = [labels[id(tensor)] for tensor in call.inputs]
        name = str(call.layer.name)
        try:
            given = _follow(call, taken, times[id(call.layer)], channels)
        except Unsupported as reason:
            left_alone[name] = str(reason)
            for one in taken:
                channels.keep(one, f"its channels go into {name!r}: {reason}")
            given = [channels.give(_width(tensor)) for tensor in call.outputs]
            for one in given:
                channels.keep(one, f"its channels meet those of {name!r}: {reason}")
            touched[name] = np.concatenate([*taken, *given, touched.get(name, _NONE)])
        labels.update(zip(map(id, call.outputs), given, strict=True))
    for tensor in model.outputs:
        channels.keep(labels[id(tensor)], "it gives the model's output")
    return left_alone, touched


def _follow(call: Call, taken: list[Labels], times: int, channels: Channels) -> list[Labels]:
    """Return the labels of what a call gives."""
    if times > 1:
        raise Unsupported("it is called more than once")
    if taken:
        return [find_rule(call)(channels, call, taken)]
    given = [channels.give(_width(tensor)) for tensor in call.outputs]
    for one in given:
        channels.keep(one, "its channels meet the model's input")
    return given


def _width(tensor: Any) -> int:
    """A tensor with an open last axis has no channels that could be told apart: one stands for all."""
    return int(tensor.shape[-1] or 1) if len(tensor.shape) > 1 else 1


def _group(slices: tuple[Slice, ...], kept: Collection[int], dense: Collection[str]) -> tuple[Group, ...]:
    """Put the channels that may go together by who makes them."""
    makers: dict[int, dict[str, None]] = {}
    for one in slices:
        if one.role is Role.MAKES:
            for channel in one.channels.tolist():
                makers.setdefault(channel, {})[one.layer] = None
    members: dict[tuple[str, ...], list[int]] = {}
    for channel, made_by in makers.items():
        if channel not in kept:
            members.setdefault(tuple(made_by), []).append(channel)
    names: dict[str, tuple[str, ...]] = {}
    for layers in members:
        names[layers[0] if layers[0] not in names else "+".join(layers)] = layers
    return tuple(
        Group(name, "neurons" if set(layers) <= set(dense) else "filters", layers, tuple(members[layers]))
        for name, layers in names.items()
    )


def _check_names(skip: Collection[str], calls: list[Call]) -> None:
    names = {str(call.layer.name) for call in calls}
    if missing := sorted(set(skip) - names):
        raise BuildError(
            f"skip names {', '.join(missing)}, and the model has no such layer",
            hint=f"its layers are {', '.join(sorted(names))}",
            code="build.layer",
        )
