"""The pass cluster: entries are shared before and after training, zeros and kept layers stay."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.constraints import Array
from fleet_cloud.factory.lab import Part
from fleet_cloud.factory.network import Network, array_of, weights_of
from fleet_cloud.factory.pruning.weights import prune_weights
from fleet_cloud.factory.quantization.clustering import cluster
from fleet_cloud.factory.quantization.codebooks import Codebook, ScaledCodebook
from fleet_cloud.factory.recipe.passes import Cluster, PassSettings, PruneWeights, Tune
from tests.cloud.factory.small import make_lab, make_network

AT_ONCE = Tune(epochs=0)
SHORT = Tune(epochs=2, batch_size=32, learning_rate=0.005)
KERNELS = ("stem/kernel", "depthwise/kernel", "conv/kernel", "hidden/kernel", "head/kernel")
MASKED = ("stem/kernel", "conv/kernel", "hidden/kernel", "head/kernel")


def kernels(network: Network) -> dict[str, Array]:
    weights = weights_of(network.model)
    return {path: array_of(weights[path]) for path in KERNELS}


def test_what_the_loss_minds_is_asked_of_samples() -> None:
    lab = make_lab()
    empty = replace(lab, train=Part(lab.train.x[:0], None))
    with pytest.raises(BuildError, match="needs samples, on which it sees what the loss minds") as caught:
        cluster(Cluster(entries=8, weigh="loss", tune=AT_ONCE), make_network(), empty)
    assert caught.value.code == "build.samples"


@pytest.mark.parametrize("weigh", ["even", "loss"])
def test_to_keep_all_layers_as_they_are_is_refused(weigh: Any) -> None:
    keep = tuple(path.partition("/")[0] for path in KERNELS)
    with pytest.raises(BuildError, match="no weights to share") as caught:
        cluster(Cluster(entries=8, weigh=weigh, keep=keep, tune=AT_ONCE), make_network(), make_lab())
    assert caught.value.code == "build.layer"


def pruned(sparsity: float = 0.65) -> Network:
    settings = PruneWeights(sparsity=sparsity, tune=AT_ONCE)
    return prune_weights(settings, make_network(), make_lab()).network


def test_a_tensor_has_no_more_values_than_entries_and_training_moves_them() -> None:
    network, lab = make_network(), make_lab()
    before = kernels(cluster(Cluster(entries=8, tune=AT_ONCE, keep=("first",)), network, lab).network)
    outcome = cluster(Cluster(entries=8, tune=SHORT, keep=("first",)), network, lab)
    after = kernels(outcome.network)
    for path in KERNELS[1:]:
        assert 2 < len(np.unique(after[path])) <= 8
        shared = [after[path][before[path] == value] for value in np.unique(before[path])]
        assert all(len(np.unique(one)) == 1 for one in shared)
        assert not np.array_equal(before[path], after[path])
    assert "stem/kernel" not in outcome.network.constraints
    assert len(np.unique(after["stem/kernel"])) == after["stem/kernel"].size
    facts = outcome.facts
    assert [layer["layer"] for layer in facts["layers"]] == ["depthwise", "conv", "hidden", "head"]
    assert all(layer["entropy_bits_per_weight"] <= 3 for layer in facts["layers"])
    assert len(facts["history"]) == 2
    assert msgspec.json.decode(msgspec.json.encode(facts)) == facts


def test_each_channel_has_a_codebook_of_its_own() -> None:
    settings = Cluster(entries=3, per="channel", tune=SHORT)
    outcome = cluster(settings, pruned(0.4), make_lab())
    after, zeros = kernels(outcome.network), kernels(pruned(0.4))
    for path in MASKED:
        channels = after[path].reshape(-1, after[path].shape[-1]).T
        assert max(len(np.unique(channel)) for channel in channels) <= 3
        assert len(np.unique(after[path])) > 3
        assert not after[path][zeros[path] == 0].any()
    assert all(layer["entropy_bits_per_weight"] <= np.log2(3) for layer in outcome.facts["layers"])


def test_groups_share_entries_and_zeros_stay() -> None:
    settings = Cluster(entries=16, group=4, tune=SHORT)
    after, zeros = kernels(cluster(settings, pruned(0.3), make_lab()).network), kernels(pruned(0.3))
    for path in MASKED:
        assert not after[path][zeros[path] == 0].any()
    free = cluster(settings, make_network(), make_lab()).network
    hidden = kernels(free)["hidden/kernel"].T.reshape(-1, 4)
    assert len(np.unique(hidden, axis=0)) <= 16
    assert len(np.unique(hidden)) > 16


def test_a_rate_needs_fewer_bits() -> None:
    def bits(rate: float) -> float:
        facts = cluster(Cluster(entries=16, rate=rate, tune=AT_ONCE), make_network(), make_lab()).facts
        return float(sum(layer["entropy_bits_per_weight"] for layer in facts["layers"]))

    assert bits(0.05) < 0.8 * bits(0.0)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"group": 2, "normalize": True}, "group"),
        ({"group": 2, "per": "channel"}, "group"),
        ({"group": 2, "rate": 0.01}, "group"),
        ({"normalize": True, "per": "channel"}, "normalize: all channels"),
        ({"group": 2, "weigh": "loss"}, "group"),
        ({"change": True}, "change"),
        ({"normalize": True, "entries": 3}, "3 leaves no more"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert({"pass": "cluster", **settings}, PassSettings)


@pytest.mark.parametrize("normalize", [True, False])
def test_few_zeros_stay_where_their_bits_are_dear(normalize: bool) -> None:
    network = make_network()
    kernel = kernels(network)["conv/kernel"]
    kernel[0, 0, 0, :3] = 0
    weights_of(network.model)["conv/kernel"].assign(kernel)
    settings = Cluster(entries=8, rate=0.1, normalize=normalize, tune=AT_ONCE)
    shared = cluster(settings, network, make_lab()).network
    assert not kernels(shared)["conv/kernel"][kernel == 0].any()
    book = shared.constraints["conv/kernel"]
    assert isinstance(book, Codebook | ScaledCodebook)
    entries = book.entries.ravel()[book.indices].reshape(kernel.shape)
    assert not entries[kernel == 0].any(), "the index says so too"
