"""Aims are judged by what was measured, and say so when it was not."""

from dataclasses import replace

import numpy as np

from tests.bench.compress.aims import GRID, Aim, format_aims, judge
from tests.bench.compress.plan import AUGMENTED
from tests.bench.compress.report import make_rows
from tests.bench.compress.results import Made
from tests.bench.compress.scoring import Score

IMAGES = 10_000


def score(method: str, right: int, size: int, side: str = "fleet", p50_us: float = 100.0) -> Score:
    """One file that tells the first ``right`` of the images right."""
    operations = 6_000_000 if "half" in method else 12_000_000
    answers = np.arange(IMAGES) < right
    return Score(Made(side, method, 1, 1.0, operations), answers, 2 * size, size, size, p50_us, p50_us / 100)


def measured() -> list[Score]:
    floats = [score(name, 8500, 3000) for name in ("float", "float+1", "float+2", "float+3", AUGMENTED)]
    single = [
        score("int8", 8480, 900),
        score("int8-aware", 8490, 900),
        score("int8-aware", 8485, 900, "tfmot"),
        score("prune50-int8", 8420, 600),
        score("cluster32", 8450, 800),
        score("log5", 8410, 900),
        score("filters-half", 8300, 1500, p50_us=60.0),
        score("filters-half-scratch", 6000, 1500),
        score("student", 7000, 800),
        score("student-distilled", 7100, 800),
    ]
    grid = [score(name, 8410 - 50 * place, 400 - 10 * place) for place, name in enumerate(GRID)]
    peer = [score(name, 8405 - 50 * place, 700 - 10 * place, "tfmot") for place, name in enumerate(GRID)]
    return [*floats, *single, *grid, *peer]


def judge_all(scores: list[Score]) -> dict[str, Aim]:
    return {aim.name.split()[0]: aim for aim in judge(make_rows(scores), scores)}


def replaced(method: str, side: str = "fleet", **values: object) -> list[Score]:
    return [
        replace(one, **values) if (one.made.method, one.made.side) == (method, side) else one  # type: ignore[arg-type]
        for one in measured()
    ]


def test_all_hold() -> None:
    assert all(aim.holds for aim in judge_all(measured()).values())


def test_each_can_be_missed() -> None:
    few = np.arange(IMAGES) < 8000
    missed = {
        "int8": replaced("int8", answers=few),
        "int8-aware": replaced("int8-aware", answers=few),
        "50": replaced("prune50-int8", wire_bytes=800),
        "32": replaced("cluster32", answers=few),
        "5-bit": replaced("log5", answers=few),
        "filters": replaced("filters-half", p50_share=0.8),
        "a": replaced("student-distilled", answers=np.arange(IMAGES) < 7000),
        "best": replaced(GRID[0], xz_bytes=650),
    }
    assert missed.keys() == judge_all(measured()).keys()
    for name, scores in missed.items():
        assert judge_all(scores)[name].holds is False, name


def test_a_peer_that_never_holds_the_drop_is_taken_where_it_is_nearest() -> None:
    few = np.arange(IMAGES) < 8300
    scores = [
        replace(one, answers=few & one.answers) if one.made.side == "tfmot" else one for one in measured()
    ]
    best = judge_all(scores)["best"]
    assert best.holds
    assert "none of tfmot's holds it, its nearest is pcqat-50-16: +2.00" in best.found


def test_a_grid_of_which_few_points_are_measured_is_judged_by_those() -> None:
    scores = [one for one in measured() if one.made.method not in GRID[2:] or one.made.side == "tfmot"]
    best = judge_all(scores)["best"]
    assert best.holds
    assert best.found.startswith("2 and 6 of 6 points; ")


def test_what_was_not_measured_is_said() -> None:
    scores = [one for one in measured() if one.made.method != "log5"]
    aim = judge_all(scores)["5-bit"]
    assert (aim.holds, aim.found) == (None, "not measured: ('log5', 'fleet')")
    assert "| 5-bit logarithms: at most 1 point |  | not measured" in format_aims([aim])
