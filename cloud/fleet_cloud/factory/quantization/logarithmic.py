"""The pass ``log-quantize``: each weight becomes a sign and a power, or zero."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.finetuning import fine_tune
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network, weight_of
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.quantization.few_values import describe, entropy
from fleet_cloud.factory.quantization.folding import fold_batch_norm
from fleet_cloud.factory.quantization.kernels import Kernel, kernels_of
from fleet_cloud.factory.quantization.levels import Levels
from fleet_cloud.factory.quantization.powers import best_range_grid, fit_scale, power_grid
from fleet_cloud.factory.recipe.passes import LogQuantize

Array = NDArray[Any]


def log_quantize(settings: LogQuantize, network: Network, lab: Lab) -> Outcome:
    """Put the kernels on logarithmic levels and train on. Zeros stay zeros.

    Batch normalization is folded first: it would scale the levels. Raises `BuildError` (``build.layer``)
    for a layer to keep that is not there, and as training does.
    """
    folded = fold_batch_norm(network)
    kernels = kernels_of(folded.model, settings.keep)
    levels = {kernel.path: quantize_kernel(settings, kernel) for kernel in kernels}
    tuned = fine_tune(folded.constrain(levels), lab, settings.tune)
    facts = {
        "bits": settings.bits,
        "base": settings.base,
        "terms": settings.terms,
        "layers": [_describe(kernel, levels[kernel.path], tuned.network) for kernel in kernels],
        **tuned.facts,
    }
    return Outcome(tuned.network, facts)


def quantize_kernel(settings: LogQuantize, kernel: Kernel) -> Levels:
    """Return the levels of one kernel. The range quantizer's scale is the largest magnitude of a channel,
    the end of its range; that of powers is fitted."""
    weight = kernel.weight
    if settings.base == "range":
        scale = np.where(kernel.largest > 0, kernel.largest, np.float32(1))
        grid = best_range_grid(weight, scale, settings.bits)
    else:
        grid = power_grid(settings.base, settings.terms, settings.bits)
        scale = fit_scale(grid, weight, kernel.others)
    return Levels(weight, scale, grid.levels, grid.borders, (weight != 0).astype(weight.dtype))


def _describe(kernel: Kernel, first: Levels, network: Network) -> dict[str, Any]:
    """The error is that of quantization alone, before training; the rest is what came out of it."""
    last = network.constraints[kernel.path]
    assert isinstance(last, Levels)  # noqa: S101  what this pass has put there
    said = describe(kernel.layer, kernel.weight, weight_of(last), entropy(last.indices))
    error = np.square(weight_of(first).astype(np.float64) - kernel.weight).mean()
    return {**said, "mean_squared_error": float(error)}
