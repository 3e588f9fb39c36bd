"""Sparse, clustered and int8 together: the file keeps the zeros, and has no more codes than entries."""

from dataclasses import replace

import numpy as np
import pytest

from fleet_cloud.factory.constraints import Array
from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.network import Network, Precision, array_of, weights_of
from fleet_cloud.factory.pruning.weights import prune_weights
from fleet_cloud.factory.quantization.clustering import cluster
from fleet_cloud.factory.quantization.codebooks import ScaledCodebook
from fleet_cloud.factory.recipe.passes import Cluster, PruneWeights, Tune
from tests.cloud.factory.quantization.int8_file import read_int8_kernels
from tests.cloud.factory.small import make_lab, make_network

AT_ONCE = Tune(epochs=0)
SHORT = Tune(epochs=2, batch_size=32, learning_rate=0.005)
KERNELS = ("stem/kernel", "depthwise/kernel", "conv/kernel", "hidden/kernel", "head/kernel")
MASKED = ("stem/kernel", "conv/kernel", "hidden/kernel", "head/kernel")


def kernels(network: Network) -> dict[str, Array]:
    weights = weights_of(network.model)
    return {path: array_of(weights[path]) for path in KERNELS}


def pruned(sparsity: float = 0.65) -> Network:
    settings = PruneWeights(sparsity=sparsity, tune=AT_ONCE)
    return prune_weights(settings, make_network(), make_lab()).network


@pytest.mark.parametrize(
    "settings",
    [
        Cluster(entries=12, normalize=True, tune=SHORT),
        Cluster(entries=12, normalize=True, rate=0.02, weigh="loss", change=True, tune=SHORT),
    ],
)
def test_the_file_has_as_many_int8_codes_as_entries_and_all_the_zeros(settings: Cluster) -> None:
    """Prune, cluster, train, int8: sparsity and clusters are intact in the file."""
    lab, start = make_lab(), pruned()
    network = cluster(settings, start, lab).network
    content = convert(replace(network, precision=Precision("int8", calibration_samples=8)), lab)
    check_codes(content, network, start, settings.entries)


def check_codes(content: bytes, network: Network, start: Network, entries: int) -> None:
    """Each kernel of the file has the codes of its entries, and zeros where ``start`` and ``network`` do."""
    found = read_int8_kernels(content)
    assert len(found) == len(KERNELS)
    for path, codes in zip(KERNELS, found, strict=True):
        book = network.constraints[path]
        assert isinstance(book, ScaledCodebook)
        assert set(np.unique(codes)) <= set(np.round(book.entries * 127).astype(int))
        assert len(np.unique(codes)) <= entries
        zeros = np.sum(kernels(start)[path] == 0)
        assert zeros > 0.6 * codes.size or path not in MASKED
        assert np.sum(codes == 0) == np.sum(kernels(network)[path] == 0) >= zeros
