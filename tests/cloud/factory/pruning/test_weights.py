"""Weights set to zero by a pass, with and without training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import msgspec
import numpy as np
import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.constraints import Array, Parts, Tensor
from fleet_cloud.factory.events import BuildEvent, Warned
from fleet_cloud.factory.finetuning import fine_tune
from fleet_cloud.factory.network import Network, array_of, weights_of
from fleet_cloud.factory.pruning.masks import Mask
from fleet_cloud.factory.pruning.ramp import Ramp
from fleet_cloud.factory.pruning.weights import prune_weights
from fleet_cloud.factory.recipe.passes import PruneWeights, Tune
from tests.cloud.factory.small import make_lab, make_network

KERNELS = ("stem/kernel", "conv/kernel", "hidden/kernel", "head/kernel")
AT_ONCE = Tune(epochs=0)
SHORT = Tune(epochs=3, batch_size=32, learning_rate=0.005)


def kernels(network: Network) -> dict[str, Array]:
    weights = weights_of(network.model)
    return {path: array_of(weights[path]) for path in KERNELS}


def test_at_once_each_layer_loses_the_smallest_and_nothing_else_changes() -> None:
    network = make_network()
    before = {path: array_of(weight) for path, weight in weights_of(network.model).items()}
    outcome = prune_weights(PruneWeights(sparsity=0.7, tune=AT_ONCE), network, make_lab())
    for path, weight in weights_of(outcome.network.model).items():
        found, was = array_of(weight), before[path]
        if path in KERNELS:
            border = np.sort(np.abs(was), axis=None)[round(0.7 * was.size)]
            was = np.where(np.abs(was) >= border, was, 0)
        np.testing.assert_array_equal(found, was)
    np.testing.assert_array_equal(kernels(network)["conv/kernel"], before["conv/kernel"])


def test_the_facts_tell_the_share_of_each_layer() -> None:
    outcome = prune_weights(PruneWeights(sparsity=0.7, tune=AT_ONCE), make_network(), make_lab())
    found = kernels(outcome.network)
    zeros = {path: int(np.sum(kernel == 0)) for path, kernel in found.items()}
    assert outcome.facts["layers"] == [
        {"layer": path.removesuffix("/kernel"), "weights": kernel.size, "zeros": zeros[path]}
        for path, kernel in found.items()
    ]
    assert outcome.facts["sparsity"] == sum(zeros.values()) / sum(one.size for one in found.values())
    assert msgspec.json.decode(msgspec.json.encode(outcome.facts)) == outcome.facts


@pytest.mark.parametrize("scope", ["global", "adaptive"])
def test_over_all_layers_together_the_share_is_of_all(scope: Any) -> None:
    settings = PruneWeights(sparsity=0.6, scope=scope, tune=AT_ONCE)
    outcome = prune_weights(settings, make_network(), make_lab())
    total = sum(kernel.size for kernel in kernels(outcome.network).values())
    assert sum(int(np.sum(kernel == 0)) for kernel in kernels(outcome.network).values()) == round(0.6 * total)
    shares = [layer["zeros"] / layer["weights"] for layer in outcome.facts["layers"]]
    assert max(shares) > min(shares)


def test_layers_are_left_alone_by_name_and_by_place() -> None:
    settings = PruneWeights(skip=("first", "hidden", "last"), tune=AT_ONCE)
    outcome = prune_weights(settings, make_network(), make_lab())
    assert [layer["layer"] for layer in outcome.facts["layers"]] == ["conv"]
    assert set(outcome.network.constraints) == {"conv/kernel"}


@pytest.mark.parametrize("skip", [("hiden",), ("stem", "conv", "hidden", "head")])
def test_a_layer_that_is_not_there_cannot_be_left_alone_nor_can_all_be(skip: tuple[str, ...]) -> None:
    with pytest.raises(BuildError) as caught:
        prune_weights(PruneWeights(skip=skip, tune=AT_ONCE), make_network(), make_lab())
    assert caught.value.code == "build.layer"


def test_training_ends_with_the_share_and_zeros_stay_through_later_training() -> None:
    lab = make_lab()
    first = prune_weights(PruneWeights(sparsity=0.5, tune=SHORT), make_network(), lab)
    zero = {path: kernel == 0 for path, kernel in kernels(first.network).items()}
    assert [int(np.sum(one)) for one in zero.values()] == [one.size // 2 for one in zero.values()]
    tuned = fine_tune(first.network, lab, SHORT).network
    second = prune_weights(PruneWeights(sparsity=0.75, tune=SHORT), tuned, lab).network
    for path, kernel in kernels(second).items():
        assert np.all(kernel[zero[path]] == 0)
        assert np.sum(kernel == 0) == round(0.75 * kernel.size)
        assert not np.array_equal(kernel, kernels(first.network)[path]), "it trained"


@pytest.mark.parametrize("pattern", ["2:4", "block"])
def test_patterns_hold_after_training(pattern: str) -> None:
    settings = msgspec.convert({"pattern": pattern, "tune": {"epochs": 2, "batch_size": 32}}, PruneWeights)
    for path, kernel in kernels(prune_weights(settings, make_network(), make_lab()).network).items():
        kept = kernel != 0
        if pattern == "2:4" and path != "stem/kernel":  # whose one input is no four
            fours = kept.reshape(*kernel.shape[:-2], -1, 4, kernel.shape[-1])
            assert set(fours.sum(axis=-2).ravel().tolist()) == {2}
        if pattern == "block":
            blocks = kept.reshape(*kernel.shape[:-1], -1, 4)
            assert np.array_equal(blocks.all(axis=-1), blocks.any(axis=-1))
            assert abs(int(np.sum(kept)) - kernel.size / 2) <= 2


def test_zeros_that_another_tool_made_stay() -> None:
    network = make_network()
    weights = weights_of(network.model)
    pruned = array_of(weights["conv/kernel"])
    pruned[..., :6] = 0
    weights["conv/kernel"].assign(pruned)
    outcome = prune_weights(PruneWeights(sparsity=0.5, tune=SHORT), network, make_lab())
    kernel = kernels(outcome.network)["conv/kernel"]
    assert np.all(kernel[..., :6] == 0)
    assert np.all(kernel[..., 6:] != 0)


def test_a_layer_without_any_weight_left_is_told() -> None:
    said: list[BuildEvent] = []
    network = make_network()
    weights = weights_of(network.model)
    weights["head/kernel"].assign(array_of(weights["head/kernel"]) * 1e-6)
    settings = PruneWeights(sparsity=0.5, scope="global", tune=AT_ONCE)
    prune_weights(settings, network, make_lab(say=said.append))
    assert [one.message for one in said if isinstance(one, Warned)] == [
        "all weights of head are zero: the network is cut there"
    ]


def test_the_share_follows_the_polynomial() -> None:
    """Zhu and Gupta's formula, from a tenth of 100 steps over half of the rest, from 0.2 to 0.8."""
    ramp = Ramp(PruneWeights(sparsity=0.8, begin=0.1), (), 0.2)
    assert ramp.share(0, 100) == pytest.approx(0.2)
    assert ramp.share(10, 100) == pytest.approx(0.2)
    for step in (15, 30, 54):
        assert ramp.share(step, 100) == pytest.approx(0.8 + (0.2 - 0.8) * (1 - (step - 10) / 45) ** 3)
    assert ramp.share(55, 100) == ramp.share(99, 100) == 0.8


def test_weights_that_keep_something_from_before_keep_it_and_no_more() -> None:
    """Masks of layers that are skipped now, and what is no mask at all."""
    ramp = Ramp(PruneWeights(sparsity=0.5), ("conv",), 0.0)
    weight = np.arange(1, 5, dtype=np.float32).reshape(2, 2)
    parts = {"conv": Parts((weight,), (np.ones_like(weight),)), "other": Parts((weight[0],), ())}
    parts["skipped"] = parts["conv"]
    (found,) = ramp.revise(99, 100, parts).items()
    assert found[0] == "conv"
    np.testing.assert_array_equal(found[1][0], [[0, 0], [1, 1]])


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 10_000])
def test_the_masks_are_chosen_a_bounded_number_of_times_and_last_at_the_end_of_the_ramp(steps: int) -> None:
    ramp = Ramp(PruneWeights(sparsity=0.8, begin=0.9), (), 0.0)
    due = ramp.due(steps)
    assert 1 <= len(due) <= 30
    assert list(due) == sorted(set(due))
    assert ramp.share(due[-1], steps) == 0.8
    assert due[-1] < steps


def test_a_sparsity_that_the_pattern_cannot_have_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"pattern 2:4 has a sparsity of 0\.5, not 0\.7"):
        msgspec.convert({"pass": "prune-weights", "pattern": "2:4", "sparsity": 0.7}, PruneWeights)


@dataclass(frozen=True, eq=False)
class Grid:
    """Stands for a codebook or a grid of powers."""

    kind: ClassVar[str] = "grid"
    value: Array

    def split(self) -> Parts:
        return Parts((self.value,))

    def compose(self, trained: Sequence[Tensor], _held: Sequence[Tensor]) -> Tensor:
        return trained[0]

    def settle(self, parts: Parts) -> Self:
        return type(self)(parts.trained[0])


def test_weights_that_keep_something_else_are_refused() -> None:
    network = make_network()
    grid = Grid(kernels(network)["conv/kernel"])
    with pytest.raises(BuildError, match="conv/kernel keeps its grid") as caught:
        prune_weights(PruneWeights(tune=AT_ONCE), network.constrain({"conv/kernel": grid}), make_lab())
    assert caught.value.code == "build.constraint"


def test_depthwise_kernels_are_left_alone() -> None:
    outcome = prune_weights(PruneWeights(tune=AT_ONCE), make_network(), make_lab())
    assert set(outcome.network.constraints) == set(KERNELS)


def test_a_mask_is_what_it_was_given_and_stays_one_when_channels_are_scaled() -> None:
    mask = Mask(np.ones(3, np.float32), np.array([1, 0, 1], np.float32))
    parts = mask.split()
    assert np.array_equal(parts.trained[0], mask.latent)
    assert np.array_equal(np.asarray(mask.compose(parts.trained, parts.held)), [1, 0, 1])
    settled = mask.settle(Parts((2 * mask.latent,), parts.held))
    assert np.array_equal(settled.latent * settled.mask, [2, 0, 2])
    scaled = settled.scale(np.array([1, 1, 3], np.float32))
    assert np.array_equal(scaled.latent * scaled.mask, [2, 0, 6])
