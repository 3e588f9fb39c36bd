"""Channels removed: the function that stays, what it costs, and what the given network keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_cloud.factory.constraints import Array, Parts, Tensor
from fleet_cloud.factory.keras_file import read_keras, write_keras
from fleet_cloud.factory.network import Network, array_of, weight_of, weights_of
from fleet_cloud.factory.operations import count_operations, count_parameters
from fleet_cloud.factory.pruning.dependencies import analyse
from fleet_cloud.factory.pruning.masks import Mask
from fleet_cloud.factory.pruning.removal import Costs, find_held, remove
from tests.cloud.factory.pruning.networks import BLOCKS, SIDE, make_network, silence

SAMPLES = np.random.default_rng(7).normal(size=(4, SIDE, SIDE, 2)).astype(np.float32)


def draw_channels(data: st.DataObject, model: Any) -> tuple[Any, set[int]]:
    """Return dependencies, and channels of which each group keeps at least one."""
    dependencies = analyse(model)
    counts = {group.name: data.draw(st.integers(0, len(group.channels) - 1)) for group in dependencies.groups}
    order = np.random.default_rng(data.draw(st.integers(0, 99)))
    return dependencies, {
        int(channel)
        for group in dependencies.groups
        for channel in order.permutation(group.channels)[: counts[group.name]]
    }


@settings(max_examples=5, deadline=None)
@given(
    data=st.data(),
    blocks=st.lists(st.tuples(st.sampled_from(sorted(BLOCKS)), st.integers(2, 5)), min_size=1, max_size=3),
    head=st.sampled_from(["flatten", "mean"]),
)
def test_channels_that_are_zero_wherever_they_are_made_leave_the_function_as_it_is(
    data: st.DataObject, blocks: Sequence[tuple[str, int]], head: str
) -> None:
    model = make_network(blocks, head=head)
    dependencies, channels = draw_channels(data, model)
    silence(model, dependencies, channels)
    smaller = remove(Network(model), dependencies, channels).model
    before, after = model(SAMPLES).numpy(), smaller(SAMPLES).numpy()
    assert np.abs(before).max() > 1e-3
    assert np.allclose(after, before, rtol=1e-5, atol=1e-5)
    costs = Costs(model, dependencies)
    assert costs.count_operations(channels) == count_operations(smaller)
    assert costs.count_parameters(channels) == count_parameters(smaller)
    assert count_parameters(smaller) < count_parameters(model) or not channels


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_every_kind_of_part_is_cut_and_none_left_alone(kind: str) -> None:
    """One channel of every group, in each kind of part by itself."""
    model = make_network([(kind, 4)])
    dependencies = analyse(model)
    for reason in dependencies.left_alone.values():
        assert reason.startswith(("it gives the model's output", "one channel meets many in 'multiply"))
    channels = {group.channels[-1] for group in dependencies.groups if len(group.channels) > 1}
    silence(model, dependencies, channels)
    smaller = remove(Network(model), dependencies, channels).model
    assert len(channels) >= 3
    assert np.allclose(smaller(SAMPLES), model(SAMPLES), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def residual() -> Any:
    return make_network([("residual", 4)])


def test_a_channel_that_is_not_zero_is_missed(residual: Any) -> None:
    dependencies = analyse(residual)
    smaller = remove(Network(residual), dependencies, {dependencies.groups[0].channels[0]}).model
    assert np.abs(smaller(SAMPLES) - residual(SAMPLES)).max() > 1e-2


def test_the_given_network_stays_and_the_smaller_one_is_an_ordinary_model(
    residual: Any,
) -> None:
    before = residual.get_weights()
    dependencies = analyse(residual)
    stem = dependencies.groups[0]
    smaller = remove(Network(residual), dependencies, set(stem.channels[:2])).model
    assert residual.get_layer("stem").kernel.shape[-1] == 5
    assert smaller.get_layer("stem").filters == 3
    assert [weight.path for weight in smaller.weights] == [weight.path for weight in residual.weights]
    loaded = read_keras(write_keras(smaller))
    assert np.allclose(loaded(SAMPLES), smaller(SAMPLES), atol=1e-6)
    smaller.set_weights([0 * one for one in smaller.get_weights()])
    assert all(np.array_equal(a, b) for a, b in zip(before, residual.get_weights(), strict=True))


def test_a_layer_is_never_left_with_nothing(residual: Any) -> None:
    dependencies = analyse(residual)
    with pytest.raises(ValueError, match="stem"):
        remove(Network(residual), dependencies, set(dependencies.groups[0].channels))


@dataclass(frozen=True)
class Codebook:
    """A constraint that cannot be divided."""

    value: Array
    kind: ClassVar[str] = "codebook"

    def split(self) -> Parts:
        return Parts((self.value,))

    def compose(self, trained: Sequence[Tensor], _held: Sequence[Tensor]) -> Tensor:
        return trained[0]

    def settle(self, parts: Parts) -> "Codebook":
        return Codebook(parts.trained[0])


def test_a_constraint_is_divided_with_its_weight(residual: Any) -> None:
    value = array_of(weights_of(residual)["hidden/kernel"])
    mask = (np.random.default_rng(3).random(value.shape) < 0.5).astype(np.float32)
    network = Network(residual).constrain({"hidden/kernel": Mask(value, mask)})
    dependencies = analyse(network.model, held=find_held(network.constraints))
    hidden = next(group for group in dependencies.groups if group.name == "hidden")
    stem = dependencies.groups[0]
    smaller = remove(network, dependencies, {hidden.channels[1], stem.channels[0]})
    constraint = smaller.constraints["hidden/kernel"]
    weight = array_of(weights_of(smaller.model)["hidden/kernel"])
    assert weight.shape == (SIDE * SIDE * 4, 5)
    assert np.array_equal(weight, weight_of(constraint))
    assert 0.3 < (weight == 0).mean() < 0.7


def test_what_a_constraint_that_cannot_be_divided_keeps_stays(residual: Any) -> None:
    value = array_of(weights_of(residual)["hidden/kernel"])
    network = Network(residual, {"hidden/kernel": Codebook(value)})
    dependencies = analyse(network.model, held=find_held(network.constraints))
    assert "keep a constraint (codebook)" in dependencies.left_alone["hidden"]
    assert "keep a constraint (codebook)" in dependencies.left_alone["stem"]
    assert [len(group.channels) for group in dependencies.groups] == [4]
