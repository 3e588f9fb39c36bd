"""A network goes through the files of the cache and computes the same, bit for bit."""

import io
import zipfile
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from fleet_cloud.factory.constraints import CONSTRAINTS
from fleet_cloud.factory.keras_file import read_keras, write_keras
from fleet_cloud.factory.network import Network, Precision, array_of, weight_of
from fleet_cloud.factory.network_files import read_network, write_network
from fleet_cloud.factory.passes import PASSES, run_pass
from fleet_cloud.factory.recipe.passes import Cluster, LogQuantize, PruneWeights, Settings, Tune, name_pass
from tests.cloud.factory.small import make_lab, make_network

QUICK = Tune(epochs=0)


def weights(network: Network) -> dict[str, Any]:
    return {weight.path: array_of(weight) for weight in network.model.weights}


def assert_same(one: Network, other: Network) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for path, array in first.items():
        np.testing.assert_array_equal(array, second[path], strict=True)
    assert one.precision == other.precision
    assert one.constraints.keys() == other.constraints.keys()
    for path, constraint in one.constraints.items():
        assert_same_constraint(constraint, other.constraints[path])


def assert_same_constraint(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    for field in fields(one):
        _assert_same_value(getattr(one, field.name), getattr(other, field.name))
    np.testing.assert_array_equal(weight_of(one), weight_of(other), strict=True)


def _assert_same_value(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, tuple):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            _assert_same_value(first, second)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other, strict=True)
    else:
        assert one == other


CONSTRAINING: tuple[Settings, ...] = (
    PruneWeights(tune=QUICK),
    PruneWeights(pattern="2:4", tune=QUICK),
    LogQuantize(tune=QUICK),
    LogQuantize(base="range", tune=QUICK),
    LogQuantize(base="2", terms=2, tune=QUICK),
    Cluster(entries=8, tune=QUICK),
    Cluster(entries=8, per="channel", tune=QUICK),
    Cluster(entries=8, group=4, tune=QUICK),
    Cluster(entries=8, normalize=True, tune=QUICK),
)


@pytest.mark.parametrize("settings", CONSTRAINING, ids=repr)
def test_constraints_survive(settings: Settings) -> None:
    network = run_pass(settings, make_network(), make_lab()).network
    assert network.constraints
    assert_same(read_network(write_network(network)), network)


def test_every_kind_of_constraint_is_among_those() -> None:
    lab, network = make_lab(), make_network()
    kinds = {
        constraint.kind
        for settings in CONSTRAINING
        for constraint in run_pass(settings, network, lab).network.constraints.values()
    }
    only_while_training = {"changing-codebook"}
    assert kinds == set(CONSTRAINTS) - only_while_training


def test_precision_survives() -> None:
    precision = Precision(
        "int8", aware=True, per_channel_dense=False, calibration_samples=7, keep_float=("conv", "head")
    )
    network = Network(make_network().model, precision=precision)
    assert read_network(write_network(network)).precision == precision


def test_step_sizes_survive() -> None:
    sizes = {"conv/kernel": np.full((1, 1, 1, 4), 0.5, np.float32)}
    network = replace(make_network(), step_sizes=sizes)
    back = read_network(write_network(network)).step_sizes
    assert list(back) == list(sizes)
    np.testing.assert_array_equal(back["conv/kernel"], sizes["conv/kernel"])


def test_the_same_network_gives_the_same_files() -> None:
    network = run_pass(Cluster(entries=8, tune=QUICK), make_network(), make_lab()).network
    assert write_network(network) == write_network(network)
    assert write_network(read_network(write_network(network))) == write_network(network)


def test_a_keras_file_names_no_time() -> None:
    content = write_keras(make_network().model)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert b"date" not in archive.read("metadata.json")
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert read_keras(content).count_params() == make_network().model.count_params()


@pytest.mark.parametrize("kind", list(PASSES), ids=name_pass)
def test_every_pass_has_a_name_that_recipes_use(kind: type[Settings]) -> None:
    assert name_pass(kind)
