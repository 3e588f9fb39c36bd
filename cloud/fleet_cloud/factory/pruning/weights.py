"""Set the smallest weights to zero: magnitude pruning (Han et al. 2015; Zhu and Gupta 2017)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.events import Warned
from fleet_cloud.factory.finetuning import fine_tune
from fleet_cloud.factory.kernels import find_kernels
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network, array_of
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.pruning.masks import Mask, count_zeros, mask_of
from fleet_cloud.factory.pruning.ramp import Ramp, choose_masks
from fleet_cloud.factory.recipe.passes import PruneWeights


def prune_weights(settings: PruneWeights, network: Network, lab: Lab) -> Outcome:
    """Return the network with ``sparsity`` of its convolution and dense kernels zero, for good.

    With epochs the zeros grow while it trains (`Ramp`), else all are set at once. Raises `BuildError`
    (``build.layer``) for an unknown layer, (``build.constraint``) for weights that share a codebook or lie on
    a grid, and what training raises.
    """
    masks = _find_masks(settings, network)
    before = count_zeros(masks.values()) / sum(one.mask.size for one in masks.values())
    if settings.tune.epochs:
        tuned = fine_tune(network.constrain(masks), lab, settings.tune, Ramp(settings, before))
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
    for path, kernel in find_kernels(network.model, settings.skip).items():
        constraint = network.constraints.get(path)
        mask = mask_of(array_of(kernel), constraint)
        if mask is None:
            raise BuildError(
                f"{path} keeps its {getattr(constraint, 'kind', '')}: a zero may not be among its values",
                hint="prune before the weights get a codebook or a grid; those keep the zeros",
                code="build.constraint",
            )
        masks[path] = mask
    if not masks:
        raise BuildError(
            "there are no kernels to prune",
            hint="convolutions and dense layers have them; skip fewer layers",
            code="build.layer",
        )
    return masks


def _describe(path: str, constraint: Any) -> Mapping[str, Any]:
    return {
        "layer": path.removesuffix("/kernel"),
        "weights": int(constraint.mask.size),
        "zeros": count_zeros([constraint]),
    }
