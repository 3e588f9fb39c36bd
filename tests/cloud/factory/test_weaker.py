"""Backing off: what is weakened, by how much, and where it ends."""

import pytest

from fleet_cloud.factory.recipe.passes import (
    Cluster,
    Float16,
    Int8,
    LogQuantize,
    PruneFilters,
    PruneNeurons,
    PruneWeights,
    Settings,
    Train,
)
from fleet_cloud.factory.recipe.weaker import choose_weaker, describe_change, describe_passes, weaken


@pytest.mark.parametrize(
    ("settings", "weaker"),
    [
        (PruneWeights(sparsity=0.8), PruneWeights(sparsity=0.6)),
        (PruneWeights(pattern="2:4"), None),
        (PruneWeights(sparsity=0.012), None),
        (PruneFilters(fraction=0.4), PruneFilters(fraction=0.3)),
        (PruneNeurons(fraction=0.4), PruneNeurons(fraction=0.3)),
        (LogQuantize(bits=7), LogQuantize(bits=8)),
        (LogQuantize(bits=8), None),
        (Cluster(entries=16), Cluster(entries=32)),
        (Cluster(entries=200), Cluster(entries=256)),
        (Cluster(entries=256), None),
        (Train(), None),
        (Int8(), None),
        (Float16(), None),
    ],
)
def test_a_pass_is_weakened_by_one_step(settings: Settings, weaker: Settings | None) -> None:
    assert weaken(settings) == weaker


@pytest.mark.parametrize("begin", [PruneWeights(sparsity=0.99), LogQuantize(bits=3), Cluster(entries=2)])
def test_it_ends(begin: Settings) -> None:
    current: Settings | None = begin
    for _ in range(50):
        if current is None:
            return
        current = weaken(current)
    pytest.fail("it is weakened for ever")


def test_the_pass_that_cost_most_is_weakened_and_of_equal_ones_the_later() -> None:
    passes = [PruneFilters(fraction=0.4), Cluster(entries=8), Int8()]
    assert choose_weaker(passes, [0.05, 0.01, 0.9]) == (0, PruneFilters(fraction=0.3))
    assert choose_weaker(passes, [0.01, 0.05, 0.0]) == (1, Cluster(entries=16))
    assert choose_weaker(passes, [None, None, None]) == (1, Cluster(entries=16))
    assert choose_weaker(passes, [0.01, None, None]) == (0, PruneFilters(fraction=0.3))
    assert choose_weaker([Int8()], [0.5]) is None
    assert choose_weaker([], []) is None


def test_what_was_changed_is_said_in_the_words_of_the_recipe() -> None:
    assert (
        describe_change(PruneWeights(sparsity=0.5), PruneWeights(sparsity=0.375)) == "sparsity 0.5 -> 0.375"
    )
    assert (
        describe_passes([PruneWeights(sparsity=0.5), Cluster(), Int8()])
        == "prune-weights 0.5, cluster 32, int8"
    )
