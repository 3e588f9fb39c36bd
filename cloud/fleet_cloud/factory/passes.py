"""The passes by their settings, and how one is carried out."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.distillation.again import train_again
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.pruning.filters import prune_filters
from fleet_cloud.factory.pruning.neurons import prune_neurons
from fleet_cloud.factory.pruning.weights import prune_weights
from fleet_cloud.factory.quantization.clustering import cluster
from fleet_cloud.factory.quantization.integer import dynamic_range, float16, int8, int16x8
from fleet_cloud.factory.quantization.logarithmic import log_quantize
from fleet_cloud.factory.recipe.passes import (
    Cluster,
    DynamicRange,
    Float16,
    Int8,
    Int16x8,
    LogQuantize,
    PruneFilters,
    PruneNeurons,
    PruneWeights,
    Settings,
    Train,
    name_pass,
)

Pass = Callable[[Any, Network, Lab], Outcome]
"""Takes its own settings, a network, and what it may look at."""


PASSES: Final[Mapping[type[Settings], Pass]] = {
    Train: train_again,
    PruneFilters: prune_filters,
    PruneNeurons: prune_neurons,
    PruneWeights: prune_weights,
    LogQuantize: log_quantize,
    Cluster: cluster,
    Int8: int8,
    Int16x8: int16x8,
    Float16: float16,
    DynamicRange: dynamic_range,
}


def run_pass(settings: Settings, network: Network, lab: Lab) -> Outcome:
    """Return what the pass makes of ``network``, which stays as it is. Raises what the pass raises."""
    carried_out = PASSES.get(type(settings))
    if carried_out is None:
        raise BuildError(
            f"the pass {name_pass(settings)!r} cannot be carried out by this version of Fleet",
            hint=f"known are {', '.join(sorted(name_pass(known) for known in PASSES))}",
            code="build.pass",
        )
    return carried_out(settings, network, lab)
