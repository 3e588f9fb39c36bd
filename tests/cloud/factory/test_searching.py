"""The search for passes and strengths: what is drawn, what is remembered, what comes out."""

from pathlib import Path
from typing import Any

import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.recipe.passes import Int8, PruneFilters, Settings, Tune
from fleet_cloud.factory.recipe.search import Search, draw_passes, find_fault
from fleet_cloud.factory.searching import run_search

PRUNE = {
    "pass": "prune-filters",
    "fraction": {"from": 0.1, "to": 0.8},
    "tune": {"epochs": {"from": 1, "to": 3}},
}
SEARCH = Search(passes=(PRUNE, {"pass": "int8", "optional": True}), trials=12)


class Middle:
    """Draws what lies in the middle, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def choose(self, name: str, options: Any, /) -> Any:
        self.asked.append(name)
        return options[len(options) // 2]

    def between(self, name: str, low: float, high: float, /, *, log: bool) -> float:
        self.asked.append(f"{name} {'log' if log else ''}")
        return (low + high) // 2 if isinstance(low, int) else (low + high) / 2


def test_what_is_written_as_a_choice_is_drawn_and_the_rest_stays() -> None:
    draw = Middle()
    score = {"any": ["l1", "l2", "taylor"]}
    search = Search(passes=({**PRUNE, "score": score, "multiple": 4}, {"pass": "int8", "optional": True}))
    (prune,) = draw_passes(search, draw)  # int8 is left out
    assert prune == PruneFilters(fraction=0.45, score="l2", multiple=4, tune=Tune(epochs=2))
    assert draw.asked == [
        *("1-prune-filters.fraction ", "1-prune-filters.tune.epochs ", "1-prune-filters.score", "2-int8?")
    ]
    assert find_fault(search) is None


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ({"pass": "prune-filters", "fraction": {"from": 0.1, "to": 1.5}}, "< 1.0"),
        ({"pass": "prune-filters", "fraction": {"from": 0.5, "to": 0.5}}, "no range"),
        ({"pass": "cluster", "entries": {"from": 0, "to": 9, "log": True}}, "no range"),
        ({"pass": "prune-filters", "fraction": {"from": 0.1, "too": 0.5}}, "too"),
        ({"pass": "prune-filters", "score": {"any": ["l2", "l3"]}}, "l3"),
        ({"pass": "prune-filters", "score": {"any": []}}, "length >= 1"),
        ({"pass": "prune-all"}, "prune-all"),
        ({"pass": "int8", "maybe": True}, "maybe"),
        ({}, "pass"),
    ],
)
def test_a_section_that_gives_no_passes_is_refused(template: dict[str, Any], fault: str) -> None:
    found = find_fault(Search(passes=(template,)))
    assert found is not None
    assert fault in found


class Attempts:
    """Accuracy and cost that both fall with the fraction; int8 is a quarter of the cost for one percent."""

    def __init__(self, broken: bool = False) -> None:
        self.made: list[tuple[Settings, ...]] = []
        self._broken = broken

    def __call__(self, passes: tuple[Settings, ...]) -> tuple[float, float]:
        if self._broken:
            raise BuildError("it diverged", code="build.diverged")
        self.made.append(passes)
        fraction = passes[0].fraction if isinstance(passes[0], PruneFilters) else 0.0
        smaller = 4 if any(isinstance(one, Int8) for one in passes) else 1
        return 1 - fraction**2 - 0.01 * (smaller > 1), 1000 * (1 - fraction) / smaller


def test_a_front_comes_out_and_a_search_goes_on_where_it_was(tmp_path: Path) -> None:
    file, told, attempts = tmp_path / "search" / "one.log", list[str](), Attempts()
    run_search(Search(passes=SEARCH.passes, trials=5), attempts, file, 1, told.append)
    assert len(attempts.made) == len(told) == 5
    front = run_search(SEARCH, attempts, file, 1, told.append)
    assert len(attempts.made) == len(set(attempts.made)) == 12
    costs, accuracies = [point.cost for point in front], [point.accuracy for point in front]
    assert costs == sorted(costs)
    assert accuracies == sorted(accuracies)
    assert len(front) >= 3
    for passes in list(attempts.made):
        accuracy, cost = attempts(passes)
        assert any(point.cost <= cost and point.accuracy >= accuracy for point in front)
    assert run_search(SEARCH, attempts, file, 1, told.append) == front
    assert len(told) == 12


def test_what_is_no_sensible_order_or_refused_is_a_trial_without_a_result(tmp_path: Path) -> None:
    told, attempts = list[str](), Attempts()
    wrong = Search(passes=({"pass": "int8"}, PRUNE), trials=2)
    assert run_search(wrong, attempts, tmp_path / "wrong.log", 1, told.append) == []
    assert not attempts.made
    assert "number format" in told[0]
    refused = Search(passes=(PRUNE,), trials=2)
    assert run_search(refused, Attempts(broken=True), tmp_path / "refused.log", 1, told.append) == []
    assert told[2:] == ["trial 0: it diverged", "trial 1: it diverged"]


def test_the_time_ends_a_search(tmp_path: Path) -> None:
    attempts = Attempts()
    run_search(Search(passes=(PRUNE,), minutes=1e-9), attempts, tmp_path / "short.log", 1, list[str]().append)
    assert len(attempts.made) <= 1
