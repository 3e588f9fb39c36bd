"""The pass ``cluster``: weights, or groups of them, share the entries of a codebook."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fleet_cloud.factory.constraints import Constraint
from fleet_cloud.factory.finetuning import fine_tune
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network, weight_of
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.quantization.changing import ChangingCodebook
from fleet_cloud.factory.quantization.codebooks import Codebook, ScaledCodebook
from fleet_cloud.factory.quantization.few_values import conditional_entropy, describe, entropy
from fleet_cloud.factory.quantization.folding import fold_batch_norm
from fleet_cloud.factory.quantization.importance import weigh_errors
from fleet_cloud.factory.quantization.kernels import Kernel, kernels_of
from fleet_cloud.factory.quantization.sharing import Terms, let_change, share_kernel
from fleet_cloud.factory.recipe.passes import Cluster

Book = Codebook | ScaledCodebook


def cluster(settings: Cluster, network: Network, lab: Lab) -> Outcome:
    """Give each kernel a codebook and train the entries. Zeros stay zeros.

    Batch normalization is folded first: it would give each channel values of its own. Raises `BuildError`
    (``build.layer``) for a layer to keep that is not there, and as training does.
    """
    folded = fold_batch_norm(network)
    kernels = kernels_of(folded.model, settings.keep)
    random = np.random.default_rng(lab.seed)
    terms = _find_terms(settings, kernels, folded, lab)
    books = {kernel.path: share_kernel(settings, kernel, terms[kernel.path], random) for kernel in kernels}
    tuned = fine_tune(folded.constrain(_trained(settings, kernels, books, terms)), lab, settings.tune)
    network = _freeze(tuned.network)
    facts = {
        "entries": settings.entries,
        "group": settings.group,
        "per": settings.per,
        "normalize": settings.normalize,
        "rate": settings.rate,
        "weigh": settings.weigh,
        "change": settings.change,
        "layers": [_describe(settings, kernel, books[kernel.path], network) for kernel in kernels],
        **tuned.facts,
    }
    return Outcome(network, facts)


def _trained(
    settings: Cluster, kernels: Sequence[Kernel], books: Mapping[str, Book], terms: Mapping[str, Terms]
) -> Mapping[str, Constraint]:
    """Return what is trained: the codebooks, or those in which weights may change to other entries."""
    if not (settings.change and settings.tune.epochs):
        return books
    scaled = {path: book for path, book in books.items() if isinstance(book, ScaledCodebook)}
    return {one.path: let_change(scaled[one.path], one, terms[one.path]) for one in kernels}


def _freeze(network: Network) -> Network:
    changing = {path: one for path, one in network.constraints.items() if isinstance(one, ChangingCodebook)}
    return network.constrain({path: one.freeze() for path, one in changing.items()})


def _find_terms(settings: Cluster, kernels: Sequence[Kernel], network: Network, lab: Lab) -> dict[str, Terms]:
    """Return what errors and bits count for each kernel. By the loss one price holds for all kernels, so that
    bits go where they help most; evenly each kernel has a price of its own, in units of its weights."""
    if settings.weigh == "even":
        return {
            kernel.path: Terms(
                np.ones(kernel.weight.shape), settings.rate * float(np.square(kernel.weight).mean())
            )
            for kernel in kernels
        }
    importance = weigh_errors(network, lab, [kernel.path for kernel in kernels])
    total = sum(float((importance[one.path] * np.square(one.weight)).sum()) for one in kernels)
    price = settings.rate * total / sum(kernel.weight.size for kernel in kernels)
    return {kernel.path: Terms(importance[kernel.path], price) for kernel in kernels}


def _describe(settings: Cluster, kernel: Kernel, first: Book, network: Network) -> dict[str, Any]:
    """The error is that of sharing alone, before training; the rest is what came out of it."""
    last = network.constraints[kernel.path]
    assert isinstance(last, Codebook | ScaledCodebook)  # noqa: S101  what this pass has put there
    bits = entropy(last.indices) / settings.group
    if settings.per == "channel":
        shape = [size if axis in kernel.channels else 1 for axis, size in enumerate(kernel.weight.shape)]
        channel = np.broadcast_to(np.arange(np.prod(shape)).reshape(shape), kernel.weight.shape)
        bits = conditional_entropy(last.indices, channel)
    said = describe(kernel.layer, kernel.weight, weight_of(last), bits)
    error = np.square(weight_of(first).astype(np.float64) - kernel.weight).mean()
    return {**said, "mean_squared_error": float(error)}
