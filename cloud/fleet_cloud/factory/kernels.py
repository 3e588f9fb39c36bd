"""The kernels of a network that passes work on, and the layers that they leave alone."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final

import keras

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.network import layers_of

KINDS: Final = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Dense)
"""Depthwise kernels are not among them: they are a percent or so of the weights, every output hangs on the
few of its own channel, and there is no sum over channels that could make up for a lost one."""


def find_kernels(model: Any, skip: Sequence[str] = ()) -> dict[str, Any]:
    """Return the kernels (variables) of convolutions and dense layers by path, in the order of the layers.

    ``skip``: names of layers, ``first`` and ``last`` (of those that have such a kernel). Raises `BuildError`
    (``build.layer``) for a name that is no layer's.
    """
    layers = layers_of(model)
    found = [layer for layer in layers if isinstance(layer, KINDS)]
    known = {layer.name for layer in layers}
    for name in skip:
        if name not in known | {"first", "last"}:
            close = get_close_matches(name, known, 1)
            raise BuildError(
                f"there is no layer {name!r} to leave alone",
                hint=f"did you mean {close[0]!r}?" if close else f"layers with kernels: {_names(found)}",
                code="build.layer",
            )
    ends = {"first": found[:1], "last": found[-1:]}
    left = {*skip, *(layer.name for end in {"first", "last"} & set(skip) for layer in ends[end])}
    return {layer.kernel.path: layer.kernel for layer in found if layer.name not in left}


def _names(layers: Sequence[Any]) -> str:
    return ", ".join(layer.name for layer in layers) or "none"
