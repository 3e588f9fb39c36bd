"""What the runtime that a variant is for can compute: a file is fitted to it, or refused."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.inspect import inspect_file
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.recipe.targets import PER_TENSOR
from fleet_shared.compatibility import find_broken_rules

TARGETS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "litert": ("litert", "2.3.0"),
        "tflite-2.14": ("tflite_runtime", "2.14.0"),
        "openvino": ("openvino", "2026.4.0"),
        "tvm": ("tvm", "0.27.0"),
    }
)
"""Runtime and version by the name of the target."""


def fit_target(network: Network, target: str) -> Network:
    """Return the network with a precision that the target can compute, if there is one."""
    if target in PER_TENSOR and network.precision.kind == "dynamic-range":
        return replace(network, precision=replace(network.precision, per_channel_dense=False))
    return network


def check_target(content: bytes, target: str) -> None:
    """Raise `BuildError` (``build.target``) when a ``.tflite`` file cannot run on its target."""
    runtime, version = TARGETS[target]
    reasons = find_broken_rules(inspect_file(content).ops, runtime, version)
    if reasons:
        raise BuildError(
            f"{target} cannot run the file: {'; '.join(reasons)}",
            hint="choose other passes for this target, or another target",
            code="build.target",
        )
