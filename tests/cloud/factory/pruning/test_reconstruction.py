"""Kernels that make up for what is gone: what they reach, and what they leave alone."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from fleet_cloud.factory.network import Network, weights_of
from fleet_cloud.factory.pruning.dependencies import Dependencies, analyse
from fleet_cloud.factory.pruning.masks import Mask
from fleet_cloud.factory.pruning.reconstruction import Reconstructed, reconstruct
from fleet_cloud.factory.pruning.removal import remove
from tests.cloud.factory.pruning.networks import BLOCKS, SIDE, make_network, randomize

SAMPLES = np.random.default_rng(5).normal(size=(40, SIDE, SIDE, 2)).astype(np.float32)
OTHERS = np.random.default_rng(6).normal(size=(8, SIDE, SIDE, 2)).astype(np.float32)


def cut_and_solve(
    network: Network, removed: set[int], samples: Any = SAMPLES
) -> tuple[Network, Reconstructed]:
    dependencies = analyse(network.model)
    smaller = remove(network, dependencies, removed)
    return smaller, reconstruct(network, dependencies, removed, smaller, samples)


def channels_of(dependencies: Dependencies, group: str, *numbers: int) -> set[int]:
    found = next(one for one in dependencies.groups if one.name == group)
    return {found.channels[number] for number in numbers}


def chain(**taker: Any) -> Any:
    """A convolution of which the third filter is the first one doubled; and what takes it."""
    inputs = keras.Input((SIDE, SIDE, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="maker")(inputs)
    x = layers.Conv2D(5, 3, name="taker", **taker)(x)
    model = randomize(keras.Model(inputs, layers.Dense(3, name="logits")(layers.Flatten()(x))))
    kernel, bias = (np.array(weight) for weight in model.get_layer("maker").get_weights())
    kernel[..., 2], bias[2] = 2 * kernel[..., 0], 2 * bias[0]
    model.get_layer("maker").set_weights([kernel, bias])
    return model


@pytest.mark.parametrize(
    "taker",
    [
        {"padding": "same"},
        {"padding": "valid", "use_bias": False},
        {"padding": "same", "strides": 2},
        {"padding": "same", "dilation_rate": 2},
    ],
)
def test_a_channel_that_others_hold_as_well_is_not_missed(taker: dict[str, Any]) -> None:
    model = chain(**taker)
    removed = channels_of(analyse(model), "maker", 2)
    cut, solved = cut_and_solve(Network(model), removed)
    before = model(OTHERS).numpy()
    scale = np.abs(before).max()
    assert np.abs(cut.model(OTHERS) - before).max() > 0.05 * scale
    assert np.abs(solved.network.model(OTHERS) - before).max() < 2e-3 * scale
    as_cut, left = solved.errors["taker"]
    assert as_cut > 0.05
    assert left < 1e-5


def test_the_kernel_is_the_one_of_least_squares() -> None:
    model = make_network([("residual", 4)])
    removed = channels_of(analyse(model), "hidden", 1, 4)
    cut, solved = cut_and_solve(Network(model), removed)
    taken = keras.Model(cut.model.input, cut.model.get_layer("hidden").output)(SAMPLES).numpy()
    wanted = model(SAMPLES).numpy()
    rows = np.hstack([taken, np.ones((len(taken), 1))]).astype(np.float64)
    best, *_ = np.linalg.lstsq(rows, wanted, rcond=None)
    kernel, bias = solved.network.model.get_layer("logits").get_weights()
    least = np.square(rows @ best - wanted).sum()
    reached = np.square(rows @ np.vstack([kernel, bias]) - wanted).sum()
    assert list(solved.errors) == ["logits"]
    assert reached == pytest.approx(least, rel=1e-2)
    variance = np.square(wanted - wanted.mean(axis=0)).sum()
    assert solved.errors["logits"][1] == pytest.approx(reached / variance, rel=1e-3)
    as_cut = np.square(cut.model(SAMPLES).numpy() - wanted).sum()
    assert solved.errors["logits"][0] == pytest.approx(as_cut / variance, rel=1e-3)


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_in_every_kind_of_part_the_outputs_come_nearer(kind: str) -> None:
    model = make_network([(kind, 4)])
    removed = {group.channels[0] for group in analyse(model).groups if len(group.channels) > 1}
    cut, solved = cut_and_solve(Network(model), removed)
    assert solved.errors
    assert all(left <= as_cut for as_cut, left in solved.errors.values())
    before = model(SAMPLES).numpy()
    errors = [np.square(one.model(SAMPLES).numpy() - before).sum() for one in (cut, solved.network)]
    assert errors[1] < errors[0]


def test_what_was_given_stays_as_it_is() -> None:
    model = chain()
    dependencies = analyse(model)
    removed = channels_of(dependencies, "maker", 1)
    smaller = remove(Network(model), dependencies, removed)
    before, after = model.get_weights(), smaller.model.get_weights()
    reconstruct(Network(model), dependencies, removed, smaller, SAMPLES)
    for was, now in zip([*before, *after], [*model.get_weights(), *smaller.model.get_weights()], strict=True):
        assert np.array_equal(was, now)


def test_kernels_that_keep_a_constraint_are_left_alone() -> None:
    model = chain()
    weights = weights_of(model)
    path = next(path for path in weights if path.endswith("taker/kernel"))
    mask = Mask(weights[path].numpy(), np.ones(weights[path].shape, bool))
    cut, solved = cut_and_solve(Network(model, {path: mask}), channels_of(analyse(model), "maker", 1))
    assert not solved.errors
    assert np.array_equal(
        cut.model.get_layer("taker").get_weights()[0],
        solved.network.model.get_layer("taker").get_weights()[0],
    )


def test_without_samples_all_stays() -> None:
    model = chain()
    cut, solved = cut_and_solve(Network(model), channels_of(analyse(model), "maker", 1), SAMPLES[:0])
    assert not solved.errors
    for was, now in zip(cut.model.get_weights(), solved.network.model.get_weights(), strict=True):
        assert np.array_equal(was, now)
