"""The search for passes and strengths: what is drawn, what is remembered, what comes out."""

from pathlib import Path
from typing import Any

import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.events import Tried
from fleet_cloud.factory.recipe.passes import Int8, PruneFilters, Settings, Tune
from fleet_cloud.factory.recipe.search import Search, draw_passes, find_search_problems
from fleet_cloud.factory.searching import count_trials, run_search

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
    assert find_search_problems(search) == []


@pytest.mark.parametrize(
    ("template", "key", "fault"),
    [
        ({"pass": "prune-filters", "fraction": {"from": 0.1, "to": 1.5}}, ".fraction", "< 1.0"),
        ({"pass": "prune-filters", "fraction": {"from": 0.5, "to": 0.5}}, "", "no range"),
        ({"pass": "cluster", "entries": {"from": 0, "to": 9, "log": True}}, "", "no range"),
        ({"pass": "prune-filters", "fraction": {"from": 0.1, "too": 0.5}}, "", "too"),
        ({"pass": "prune-filters", "score": {"any": ["l2", "l3"]}}, ".score", "l3"),
        ({"pass": "prune-filters", "score": {"any": []}}, "", "length >= 1"),
        ({"pass": "prune-filters", "tune": {"epocs": {"from": 1, "to": 2}}}, ".tune", "epocs"),
        ({"pass": "prune-all"}, ".pass", "prune-all"),
        ({"pass": {"any": ["int8", "int9"]}}, ".pass", "int9"),
        ({"pass": "int8", "maybe": True}, "", "maybe"),
        ({"pass": "int8", "optional": "yes"}, ".optional", "bool"),
        ({}, "", "pass"),
    ],
)
def test_a_section_that_gives_no_passes_is_refused(template: dict[str, Any], key: str, fault: str) -> None:
    (problem,) = find_search_problems(Search(passes=({"pass": "train"}, template)))
    assert problem.key == f"search.passes[1]{key}"
    assert fault in problem.message
    assert problem.hint


@pytest.mark.parametrize(
    ("second", "refused"),
    [
        ({"pass": "float16"}, True),
        ({"pass": "float16", "optional": True}, False),
        ({"pass": {"any": ["float16", "int16x8"]}}, False),
    ],
)
def test_an_order_that_makes_no_sense_in_any_trial_is_refused(second: dict[str, Any], refused: bool) -> None:
    problems = find_search_problems(Search(passes=({"pass": "int8"}, second)))
    assert [(one.key, "one number format" in one.message) for one in problems] == (
        [("search.passes[1]", True)] if refused else []
    )


@pytest.mark.parametrize(
    ("normalize", "dense", "refused"),
    [
        (True, False, True),
        (True, {"any": [True, False]}, False),
        (False, True, True),
        ({"any": [True, False]}, True, False),
    ],
)
def test_settings_that_make_no_sense_together_are_refused_if_nothing_else_can_be_drawn(
    normalize: Any, dense: Any, refused: bool
) -> None:
    cluster = {"pass": "cluster", "entries": {"from": 8, "to": 64}, "normalize": normalize}
    problems = find_search_problems(Search(passes=(cluster, {"pass": "int8", "per_channel_dense": dense})))
    assert [one.key for one in problems] == (["search.passes[1]"] if refused else [])
    assert all("per_channel_dense" in one.hint or "normalize" in one.hint for one in problems)


@pytest.mark.parametrize(("aware", "drawn"), [(True, Int8(aware=True, tune=Tune(epochs=3))), (False, Int8())])
def test_what_is_drawn_does_not_speak_of_training_that_it_does_not_do(aware: bool, drawn: Settings) -> None:
    search = Search(passes=({"pass": "int8", "aware": {"any": [not aware, aware]}, "tune": {"epochs": 3}},))
    assert find_search_problems(search) == []
    assert draw_passes(search, Middle()) == (drawn,)


class Attempts:
    """Accuracy and cost that both fall with the fraction; int8 is a quarter of the cost for one percent."""

    def __init__(self, broken: BaseException | None = None) -> None:
        self.made: list[tuple[Settings, ...]] = []
        self.names: list[str] = []
        self._broken = broken

    def __call__(self, name: str, passes: tuple[Settings, ...]) -> tuple[float, float]:
        self.names.append(name)
        self.made.append(passes)
        if self._broken is not None:
            raise self._broken
        fraction = passes[0].fraction if isinstance(passes[0], PruneFilters) else 0.0
        smaller = 4 if any(isinstance(one, Int8) for one in passes) else 1
        return 1 - fraction**2 - 0.01 * (smaller > 1), 1000 * (1 - fraction) / smaller


def test_passes_that_are_drawn_again_have_the_result_that_they_had(tmp_path: Path) -> None:
    file, told, attempts = tmp_path / "one.log", list[Tried](), Attempts()
    prune = {"pass": "prune-filters", "fraction": {"any": [0.2, 0.4]}}
    search = Search(passes=(prune, {"pass": "int8", "optional": True}), trials=12)
    found = run_search(search, attempts, file, 1, told.append)
    assert len(attempts.made) == len(set(attempts.made)) <= 4
    assert len(told) == count_trials(file) == found.trials == 12
    results = {(one.passes, one.accuracy, one.cost) for one in told}
    assert len(results) == len(attempts.made), "the same passes, the same result"


@pytest.mark.parametrize(("code", "again"), [("build.gate", False), ("build.diverged", True)])
def test_passes_that_held_no_gate_are_not_made_again(tmp_path: Path, code: str, again: bool) -> None:
    told, attempts = list[Tried](), Attempts(BuildError("too large by 3 kB", code=code))
    prune = {"pass": "prune-filters", "fraction": {"any": [0.2, 0.4]}}
    found = run_search(Search(passes=(prune,), trials=8), attempts, tmp_path / "one.log", 1, told.append)
    assert (found.trials, found.failed, len(told)) == (8, 8, 8)
    assert {one.why for one in told} == {"too large by 3 kB"}
    assert len(attempts.made) == (8 if again else len(set(attempts.made)))


def test_a_front_comes_out_and_a_search_goes_on_where_it_was(tmp_path: Path) -> None:
    file, told, attempts = tmp_path / "search" / "one.log", list[Tried](), Attempts()
    run_search(Search(passes=SEARCH.passes, trials=5), attempts, file, 1, told.append)
    assert len(attempts.made) == len(told) == 5
    found = run_search(SEARCH, attempts, file, 1, told.append)
    assert attempts.names == [f"trial-{number}" for number in range(12)]
    assert len(set(attempts.made)) == found.trials == 12
    costs, accuracies = [point.cost for point in found.front], [point.accuracy for point in found.front]
    assert costs == sorted(costs)
    assert accuracies == sorted(accuracies)
    assert len(found.front) >= 3
    for event, passes in zip(told, list(attempts.made), strict=True):
        accuracy, cost = attempts("again", passes)
        assert (event.accuracy, event.cost, event.why) == (accuracy, cost, "")
        assert any(point.cost <= cost and point.accuracy >= accuracy for point in found.front)
    assert all(attempts.made[point.number] == point.passes for point in found.front)
    assert run_search(SEARCH, attempts, file, 1, told.append) == found
    assert len(told) == 12


def test_a_search_that_was_interrupted_makes_the_trials_of_one_that_was_not(tmp_path: Path) -> None:
    whole, parts = Attempts(), Attempts()
    run_search(SEARCH, whole, tmp_path / "whole.log", 1, list[Tried]().append)
    for trials in (3, 7, 12):
        part = Search(passes=SEARCH.passes, trials=trials)
        run_search(part, parts, tmp_path / "parts.log", 1, list[Tried]().append)
    assert parts.made == whole.made


def test_what_is_drawn_has_few_digits_and_stays_inside(tmp_path: Path) -> None:
    attempts = Attempts()
    narrow = {"pass": "prune-filters", "fraction": {"from": 0.123456, "to": 0.123457}}
    search = Search(passes=(narrow, {**PRUNE, "multiple": 4}), trials=6)
    run_search(search, attempts, tmp_path / "digits.log", 1, list[Tried]().append)
    for first, second in attempts.made:
        assert isinstance(first, PruneFilters)
        assert isinstance(second, PruneFilters)
        assert 0.123456 <= first.fraction <= 0.123457
        assert len(str(second.fraction)) <= len("0.1234")


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (BuildError("it diverged", code="build.diverged"), "it diverged"),
        (ValueError("shapes differ"), "ValueError: shapes differ"),
    ],
)
def test_a_trial_that_fails_is_one_without_a_result(tmp_path: Path, trouble: Exception, said: str) -> None:
    told, search = list[Tried](), Search(passes=(PRUNE,), trials=2)
    found = run_search(search, Attempts(trouble), tmp_path / "refused.log", 1, told.append)
    assert (found.front, found.trials, found.failed) == ([], 2, 2)
    assert [(one.trial, one.accuracy, one.cost, one.why) for one in told] == [
        (0, None, None, said),
        (1, None, None, said),
    ]


def test_what_is_no_sensible_order_and_no_pass_is_not_tried(tmp_path: Path) -> None:
    told, attempts = list[Tried](), Attempts()
    order = Search(passes=({"pass": "int8"}, PRUNE), trials=1)
    run_search(order, attempts, tmp_path / "order.log", 1, told.append)
    drawn = {"pass": "prune-weights", "pattern": "2:4", "sparsity": {"from": 0.4, "to": 0.6}}
    run_search(Search(passes=(drawn,), trials=1), attempts, tmp_path / "drawn.log", 1, told.append)
    assert not attempts.made
    assert "number format" in told[0].why
    assert "2:4" in told[1].why


def test_a_trial_that_was_interrupted_does_not_count(tmp_path: Path) -> None:
    file, attempts, search = tmp_path / "one.log", Attempts(), Search(passes=(PRUNE,), trials=2)
    with pytest.raises(KeyboardInterrupt):
        run_search(search, Attempts(KeyboardInterrupt()), file, 1, list[Tried]().append)
    found = run_search(search, attempts, file, 1, list[Tried]().append)
    assert len(attempts.made) == found.trials == 2
    assert found.failed == 0


def test_the_time_ends_a_search(tmp_path: Path) -> None:
    attempts = Attempts()
    search = Search(passes=(PRUNE,), minutes=1e-9)
    run_search(search, attempts, tmp_path / "short.log", 1, list[Tried]().append)
    assert len(attempts.made) <= 1


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "damaged.log").write_text("this is no journal\nat all\n")
    for file, why in ((tmp_path / "a file" / "x.log", "kept in"), (tmp_path / "damaged.log", "be read")):
        with pytest.raises(BuildError, match=why) as caught:
            run_search(SEARCH, Attempts(), file, 1, list[Tried]().append)
        assert (caught.value.code, str(file) in caught.value.message) == ("build.search", True)
