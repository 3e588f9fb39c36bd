"""Kernels that make up for what is gone: what they reach, and what they leave alone."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from fleet_cloud.factory.network import Network, weights_of
from fleet_cloud.factory.pruning.dependencies import Dependencies, analyse
from fleet_cloud.factory.pruning.masks import Mask
from fleet_cloud.factory.pruning.reconstruction import RIDGES, Reconstructed, reconstruct
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


def test_the_kernel_is_the_one_of_least_squares_and_the_samples_left_out_judge_it() -> None:
    model = make_network([("residual", 4)])
    removed = channels_of(analyse(model), "hidden", 1, 4)
    samples = np.random.default_rng(8).normal(size=(400, SIDE, SIDE, 2)).astype(np.float32)
    cut, solved = cut_and_solve(Network(model), removed, samples)
    taken = keras.Model(cut.model.input, cut.model.get_layer("hidden").output)(samples).numpy()
    wanted, kernel = model(samples).numpy(), cut.model.get_layer("logits").get_weights()
    judges = np.arange(len(samples)) % 4 == 3
    variance = np.square(wanted[judges] - wanted[judges].mean(axis=0)).sum()

    def judge(weights: Any) -> float:
        return float(np.square(taken[judges] @ weights[0] + weights[1] - wanted[judges]).sum() / variance)

    seen = [solve(taken[~judges], wanted[~judges], kernel, ridge) for ridge in RIDGES]
    best = int(np.argmin([judge(one) for one in seen]))
    assert list(solved.errors) == ["logits"]
    assert solved.errors["logits"] == pytest.approx((judge(kernel), judge(seen[best])), rel=1e-3)
    expected = solve(taken, wanted, kernel, RIDGES[best])
    for ours, theirs in zip(solved.network.model.get_layer("logits").get_weights(), expected, strict=True):
        assert np.allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def solve(taken: Any, wanted: Any, weights: Any, ridge: float) -> tuple[Any, Any]:
    """Return kernel and bias by NumPy's own least squares: the ridge is more rows, of errors of zero."""
    kernel, bias = (one.astype(np.float64) for one in weights)
    rows, errors = taken - taken.mean(axis=0), wanted - (taken @ kernel + bias)
    pull = np.sqrt(ridge * np.square(rows).sum() / len(kernel)) * np.eye(len(kernel))
    stacked = np.vstack([errors - errors.mean(axis=0), np.zeros(kernel.shape)])
    step, *_ = np.linalg.lstsq(np.vstack([rows, pull]), stacked, rcond=None)
    return kernel + step, bias + errors.mean(axis=0) - taken.mean(axis=0) @ step


@pytest.mark.parametrize("count", [8, 24, 48])
def test_as_many_samples_as_inputs_make_nothing_worse(count: int) -> None:
    """Equations that have as many unknowns as rows fit them all, and nothing else."""
    inputs = keras.Input((24,))
    x = layers.Dense(56, activation="relu", name="hidden")(inputs)
    model = randomize(keras.Model(inputs, layers.Dense(3, name="logits")(x)), seed=3)
    removed = channels_of(analyse(model), "hidden", *range(8))
    random = np.random.default_rng(9)
    samples, unseen = (random.normal(size=(size, 24)).astype(np.float32) for size in (count, 500))
    cut, solved = cut_and_solve(Network(model), removed, samples)
    wanted = model(unseen).numpy()
    errors = [np.square(one.model(unseen).numpy() - wanted).sum() for one in (cut, solved.network)]
    assert errors[1] < 1.02 * errors[0]


def test_outputs_that_are_always_the_same_are_given_again() -> None:
    inputs = keras.Input((4,))
    x = layers.Dense(6, name="hidden", kernel_initializer="zeros", bias_initializer="ones")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="logits", kernel_initializer="ones")(x))
    removed = channels_of(analyse(model), "hidden", 0, 1)
    samples = np.random.default_rng(1).normal(size=(32, 4)).astype(np.float32)
    _, solved = cut_and_solve(Network(model), removed, samples)
    assert np.allclose(solved.network.model(samples), 6.0, atol=1e-4)
    as_cut, left = solved.errors["logits"]
    assert as_cut > 1 > left >= 0


def test_a_kernel_that_must_stay_positive_is_left_alone() -> None:
    model = chain(kernel_constraint="non_neg")
    cut, solved = cut_and_solve(Network(model), channels_of(analyse(model), "maker", 1))
    assert not solved.errors
    for was, now in zip(cut.model.get_weights(), solved.network.model.get_weights(), strict=True):
        assert np.array_equal(was, now)


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_in_every_kind_of_part_the_outputs_come_nearer(kind: str) -> None:
    model = make_network([(kind, 4)])
    removed = {group.channels[0] for group in analyse(model).groups if len(group.channels) > 1}
    cut, solved = cut_and_solve(Network(model), removed)
    assert any(left < 0.9 * as_cut for as_cut, left in solved.errors.values())
    before = model(OTHERS).numpy()
    errors = [np.square(one.model(OTHERS).numpy() - before).sum() for one in (cut, solved.network)]
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


def test_with_too_few_samples_all_stays() -> None:
    model = chain()
    cut, solved = cut_and_solve(Network(model), channels_of(analyse(model), "maker", 1), SAMPLES[:7])
    assert not solved.errors
    for was, now in zip(cut.model.get_weights(), solved.network.model.get_weights(), strict=True):
        assert np.array_equal(was, now)
