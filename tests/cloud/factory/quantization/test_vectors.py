"""k-means over groups of numbers: against brute force, masked, repeatable."""

from itertools import product

import numpy as np
import pytest

from fleet_cloud.factory.quantization.vectors import cluster_vectors


def test_few_groups_are_clustered_as_well_as_can_be() -> None:
    for seed in range(5):
        x = np.random.default_rng(seed).normal(size=(7, 2))
        best = np.inf
        for owners in product(range(2), repeat=len(x)):
            groups = [x[np.array(owners) == one] for one in range(2)]
            best = min(best, sum(float(np.square(g - g.mean(axis=0)).sum()) for g in groups if len(g)))
        found = cluster_vectors(x, np.ones_like(x), 2, np.random.default_rng(seed))
        assert found.cost == pytest.approx(best)
        assert found.cost == pytest.approx(float(np.square(x - found.centres[found.indices]).sum()))


def test_what_is_masked_does_not_count() -> None:
    x = np.array([[1.0, 9.0], [1.0, 2.0], [5.0, 2.0]])
    mask = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    found = cluster_vectors(x, mask, 2, np.random.default_rng(0))
    assert found.cost == 0
    assert found.indices[0] == found.indices[1] != found.indices[2]
    assert found.centres[found.indices[0]].tolist() == [1.0, 2.0]


def test_more_centres_than_groups_and_the_same_again() -> None:
    x = np.random.default_rng(0).normal(size=(30, 4))
    ones = np.ones_like(x)
    assert len(cluster_vectors(x, ones, 64, np.random.default_rng(0)).centres) == 30
    first, again = (cluster_vectors(x, ones, 5, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.centres, again.centres)
    assert np.array_equal(first.indices, again.indices)
