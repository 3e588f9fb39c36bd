"""What is kept of a run, and the table that is made of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.bench.compress.plan import AUGMENTED, METHODS, find_method
from tests.bench.compress.report import (
    BEGIN,
    END,
    format_table,
    load_published,
    make_rows,
    write_page,
    write_report,
)
from tests.bench.compress.results import LINES, Made, keep, load_made
from tests.bench.compress.scoring import Score


def score(side: str, method: str, seed: int, right: int, operations: int | None = None) -> Score:
    answers = np.arange(100) < right
    return Score(Made(side, method, seed, 1.0, operations), answers, 1000 * seed, 800, 700)


def test_names_of_methods_are_their_own_and_every_reference_is_made() -> None:
    names = [method.name for method in METHODS]
    assert len(set(names)) == len(names)
    assert {method.reference for method in METHODS} <= set(names)
    quick = [method for method in METHODS if method.quick]
    assert any(method.peer and method.is_trained for method in quick)
    assert {method.reference for method in quick} <= {method.name for method in quick}


def test_what_sees_images_changed_at_random_is_held_against_what_sees_them_too() -> None:
    references = {method.name: method.reference for method in METHODS if method.augmented}
    assert set(references.values()) == {AUGMENTED} < set(references)
    assert find_method(AUGMENTED).epochs == find_method("filters-half-patient").epochs


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    assert load_made(tmp_path) == {}
    keep(tmp_path, Made("fleet", "int8", 1, 2.5, 10), b"file")
    keep(tmp_path, Made("tfmot", "int8", 1, 2.5), b"file")
    (tmp_path / "tfmot-int8-1.tflite").unlink()
    assert list(load_made(tmp_path)) == [("fleet", "int8", 1)]
    assert len((tmp_path / LINES).read_text().splitlines()) == 2


def test_a_drop_is_from_the_float_model_with_the_same_steps() -> None:
    rows = make_rows(
        [
            score("fleet", "float", 1, 80, operations=12),
            *(score("fleet", "float+1", seed, 84) for seed in (1, 2)),
            *(score("tfmot", "int8-aware", seed, 82 + seed) for seed in (1, 2)),
            score("tfmot", "int8", 1, 80),
            score("fleet", "pcqat-50-16", 1, 70),
        ]
    )
    found = {(row.method, row.side): row for row in rows}
    assert [row.method for row in rows] == ["float", "float+1", "int8", "int8-aware", "pcqat-50-16"]
    assert found["float", "fleet"].drop == 0
    assert found["int8", "tfmot"].drop == 0
    aware = found["int8-aware", "tfmot"]
    assert (aware.reference, aware.seeds, aware.top1, aware.drop) == ("float+1", 2, 83.5, 0.5)
    assert aware.drop_low is not None
    assert aware.drop_high is not None
    assert aware.drop_low <= 0.5 <= aware.drop_high
    assert aware.file_bytes == 1500
    assert found["pcqat-50-16", "fleet"].drop is None


def test_the_table_replaces_what_stands_between_its_marks(tmp_path: Path) -> None:
    page, file = tmp_path / "page.md", tmp_path / "deep" / "rows.json"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    scores = [score("fleet", "float", 1, 80, operations=12_500_000)]
    rows = make_rows(scores)
    for _ in range(2):
        write_report(rows, scores, {"test_images": 100}, file)
        write_page(format_table(rows), page)
    assert page.read_text() == f"before\n{BEGIN}\n\n{format_table(rows)}\n{END}\nafter\n"
    assert (
        "| float | fleet | 1 | 80.00 % | +0.00 (+0.00 to +0.00) | 1,000 | 800 | 700 | 12.50 M |  |"
        in page.read_text()
    )
    document = json.loads(file.read_text())
    assert document["test_images"] == 100
    assert document["rows"][0]["method"] == "float"


def test_a_time_stands_beside_its_share_of_the_float_models() -> None:
    timed = replace(score("fleet", "int8", 1, 80), p50_us=61.2, p50_share=0.6)
    assert "| 61 us (0.60) |" in format_table(make_rows([timed]))


def test_what_is_published_is_taken_up_by_a_run_like_it(tmp_path: Path) -> None:
    file, about = tmp_path / "rows.json", {"weights": "digest", "test_images": 100}
    scores = [score("fleet", "int8", 1, 80, operations=12), score("tfmot", "int8", 2, 37)]
    assert load_published(file, about) == []
    write_report(make_rows(scores), scores, about, file)
    again = load_published(file, about)
    assert [one.made for one in again] == [one.made for one in scores]
    assert all((one.answers == other.answers).all() for one, other in zip(again, scores, strict=True))
    assert make_rows(again) == make_rows(scores)
    assert load_published(file, {**about, "weights": "others"}) == []


def test_every_method_is_found_by_its_name() -> None:
    assert all(find_method(method.name) is method for method in METHODS)
