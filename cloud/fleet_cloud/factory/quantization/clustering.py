"""The pass ``cluster``: weights, or groups of them, share the entries of a codebook."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fleet_cloud.errors import BuildError
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
from fleet_cloud.factory.quantization.samples import require_samples
from fleet_cloud.factory.quantization.sharing import Terms, let_change, price_ratio, share_kernel
from fleet_cloud.factory.quantization.tolls import RisingTolls
from fleet_cloud.factory.recipe.passes import Cluster
from fleet_cloud.factory.tuning import Tuned

Book = Codebook | ScaledCodebook


def cluster(settings: Cluster, network: Network, lab: Lab) -> Outcome:
    """Give each kernel a codebook and train the entries. Zeros stay zeros.

    Batch normalization is folded first: it would give each channel values of its own. Raises `BuildError`
    (``build.layer``) for a layer to keep that is not there, and when all are kept; ``build.samples`` when
    the loss shall weigh and there are none; and as training does.
    """
    folded = fold_batch_norm(network)
    kernels = kernels_of(folded.model, settings.keep)
    if not kernels:
        raise BuildError(
            "there are no weights to share", hint="keep fewer layers as they are", code="build.layer"
        )
    random = np.random.default_rng(lab.seed)
    terms = _find_terms(settings, kernels, folded, lab)
    changes = settings.change and settings.tune.epochs > 0
    at_first = {path: replace(each, price=0.0) for path, each in terms.items()} if changes else terms
    books = {one.path: share_kernel(settings, one, at_first[one.path], random) for one in kernels}
    trained = folded.constrain(books)
    if changes:
        tuned = _tune_changing(settings, kernels, trained, terms, lab)
    else:
        tuned = fine_tune(trained, lab, settings.tune)
    network = tuned.network
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


def _tune_changing(
    settings: Cluster, kernels: Sequence[Kernel], network: Network, terms: Mapping[str, Terms], lab: Lab
) -> Tuned:
    """Train while weights change to other entries, which cost their bits more and more; then freeze them."""
    changing = {}
    for kernel in kernels:
        book = network.constraints[kernel.path]
        assert isinstance(book, ScaledCodebook)  # noqa: S101  settings without it are refused
        changing[kernel.path] = let_change(book, kernel)
    prices = {kernel.path: price_ratio(kernel, terms[kernel.path]) for kernel in kernels}
    tolls = RisingTolls(prices) if settings.rate else None
    tuned = fine_tune(network.constrain(changing), lab, settings.tune, tolls)
    last = {path: tuned.network.constraints[path] for path in changing}
    frozen = {path: one.freeze() for path, one in last.items() if isinstance(one, ChangingCodebook)}
    return replace(tuned, network=tuned.network.constrain(frozen))


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
    require_samples(lab, "cluster with weigh: loss", "on which it sees what the loss minds")
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
