"""Set the smallest weights to zero: magnitude pruning (Han et al. 2015; Zhu and Gupta 2017)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.events import Warned
from fleet_cloud.factory.finetuning import fine_tune
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.pruning.masks import Mask, count_zeros, mask_of
from fleet_cloud.factory.pruning.ramp import Ramp, choose_masks
from fleet_cloud.factory.quantization.kernels import Kernel, kernels_of
from fleet_cloud.factory.recipe.passes import PruneWeights


def prune_weights(settings: PruneWeights, network: Network, lab: Lab) -> Outcome:
    """Return the network with ``sparsity`` of its convolution and dense kernels zero, for good.

    With epochs the zeros grow while it trains (`Ramp`), else all are set at once. Depthwise kernels are left
    alone: they are a percent or so of the weights, and no sum over channels makes up for a lost one. Raises
    `BuildError`: ``build.layer`` for a layer that is not there, ``build.constraint`` for weights that share a
    codebook or lie on a grid; and as training does.
    """
    masks = _find_masks(settings, network)
    before = count_zeros(masks.values()) / sum(one.mask.size for one in masks.values())
    if settings.tune.epochs:
        ramp = Ramp(settings, tuple(masks), before)
        tuned = fine_tune(network.constrain(masks), lab, settings.tune, ramp)
        network, facts = tuned.network, tuned.facts
    else:
        chosen = choose_masks(
            {path: (one.latent, one.mask) for path, one in masks.items()}, settings.sparsity, settings
        )
        after = {path: replace(masks[path], mask=mask) for path, mask in chosen.items()}
        network, facts = network.constrain(after), {}
    layers = [_describe(path, network.constraints[path]) for path in masks]
    for layer in layers:
        if layer["zeros"] == layer["weights"]:
            lab.say(Warned(message=f"all weights of {layer['layer']} are zero: the network is cut there"))
    share = sum(layer["zeros"] for layer in layers) / sum(layer["weights"] for layer in layers)
    return Outcome(network, {"sparsity": share, "layers": layers, **facts})


def _find_masks(settings: PruneWeights, network: Network) -> dict[str, Mask]:
    masks: dict[str, Mask] = {}
    for kernel in filter(_sums_over_inputs, kernels_of(network.model, settings.skip)):
        constraint = network.constraints.get(kernel.path)
        mask = mask_of(kernel.weight, constraint)
        if mask is None:
            raise BuildError(
                f"prune-weights: {kernel.path} keeps its {getattr(constraint, 'kind', '')}, without zeros",
                hint="prune before weights get a codebook or a grid: those keep the zeros",
                code="build.constraint",
            )
        masks[kernel.path] = mask
    if not masks:
        raise BuildError(
            "prune-weights: no layer is left to prune",
            hint="convolutions and dense layers can be pruned; skip fewer of them",
            code="build.layer",
        )
    return masks


def _sums_over_inputs(kernel: Kernel) -> bool:
    """Whether a kernel is (.., inputs, outputs), and not depthwise or transposed."""
    return kernel.channels == (kernel.weight.ndim - 1,)


def _describe(path: str, constraint: Any) -> Mapping[str, Any]:
    return {
        "layer": path.removesuffix("/kernel"),
        "weights": int(constraint.mask.size),
        "zeros": count_zeros([constraint]),
    }
