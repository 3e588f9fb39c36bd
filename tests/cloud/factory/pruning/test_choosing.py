"""Which channels are chosen, for given scores."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fleet_cloud.factory.pruning.choosing import Scope, choose, solve
from fleet_cloud.factory.pruning.dependencies import Group


def group(name: str, begin: int, width: int) -> Group:
    return Group(name, "filters", (name,), tuple(range(begin, begin + width)))


A, B = group("a", 0, 8), group("b", 8, 16)
SCORES: dict[str, NDArray[Any]] = {
    "a": np.array([8.0, 1, 7, 2, 6, 3, 5, 4]),
    "b": 10.0 + np.arange(16),
}


def test_each_layer_loses_the_same_share_of_its_lowest() -> None:
    assert choose([A, B], SCORES, 0.25, "layer", 1) == {1, 3, 8, 9, 10, 11}


def test_globally_the_lowest_of_all_go_but_never_a_whole_layer() -> None:
    assert choose([A, B], SCORES, 6 / 24, "global", 1) == {1, 3, 5, 7, 6, 4}
    assert choose([A, B], SCORES, 10 / 24, "global", 1) == {1, 2, 3, 4, 5, 6, 7, 8, 9}
    assert choose([A, B], SCORES, 10 / 24, "global", 4) == {1, 3, 5, 7}


@pytest.mark.parametrize(
    ("width", "share", "multiple", "remain"),
    [
        (16, 0.5, 8, 8),
        (16, 0.24, 8, 16),  # 12.16 is nearer to 16
        (16, 0.26, 8, 8),
        (16, 0.25, 8, 16),  # 12 is as near to both: the wider one
        (16, 1.0, 8, 8),
        (8, 1.0, 8, 8),
        (5, 1.0, 8, 5),
        (20, 0.0, 8, 20),
        (20, 0.1, 8, 16),
        (7, 0.99, 1, 1),
    ],
)
def test_widths_are_multiples(width: int, share: float, multiple: int, remain: int) -> None:
    one = group("one", 0, width)
    removed = choose([one], {"one": np.arange(width)}, share, "layer", multiple)
    assert removed == set(range(width - remain))


@given(
    widths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    scope=st.sampled_from(["layer", "global"]),
    multiple=st.sampled_from([1, 4, 8]),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 9),
)
def test_a_larger_share_removes_no_less_and_something_always_stays(
    widths: list[int], scope: Scope, multiple: int, shares: tuple[float, float], seed: int
) -> None:
    groups = [group(str(number), 100 * number, width) for number, width in enumerate(widths)]
    random = np.random.default_rng(seed)
    scores = {one.name: random.integers(0, 5, len(one.channels)) for one in groups}
    few, many = (choose(groups, scores, share, scope, multiple) for share in sorted(shares))
    assert few <= many
    for one in groups:
        remain = len(set(one.channels) - many)
        assert remain == len(one.channels) or (remain >= multiple and remain % multiple == 0)
        kept = [scores[one.name][index] for index, c in enumerate(one.channels) if c not in many]
        gone = [scores[one.name][index] for index, c in enumerate(one.channels) if c in many]
        assert not gone or max(gone) <= min(kept)


@pytest.mark.parametrize(
    ("target", "count"),
    [(0.5, 10), (0.24, 5), (0.22, 4), (0.999, 19), (0.001, 1)],  # at least one, at most what may go
)
def test_the_nearest_to_what_was_asked_is_found(target: float, count: int) -> None:
    one = group("one", 0, 20)
    scores = {"one": np.arange(20)}
    removed = solve(target, lambda share: choose([one], scores, share, "layer", 1), lambda r: len(r) / 20)
    assert len(removed) == count
