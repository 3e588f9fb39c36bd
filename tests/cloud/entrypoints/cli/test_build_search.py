"""What a search prints, and which options do not go with it."""

import json

import pytest
from typer.testing import CliRunner

from fleet_cloud.entrypoints.cli.app import app
from fleet_cloud.entrypoints.cli.build_search import print_searched
from fleet_cloud.entrypoints.cli.output import Format
from fleet_cloud.factory.events import Found, Searched

SMALL = Found(
    name="trial-3", accuracy=0.91, cost=2048.0, passes=({"pass": "prune-weights"}, {"pass": "int8"})
)
WHOLE = Found(name="trial-0", accuracy=0.97, cost=9000.0, passes=())


def make(front: tuple[Found, ...], failed: int = 0) -> Searched:
    variants = "".join(f"- name: {one.name}\n" for one in front)
    return Searched(
        model="digits", target="litert", against="wire", trials=5, failed=failed, front=front,
        variants=variants, file="x.log",
    )  # fmt: skip


def test_the_front_is_a_table_and_variants_to_paste(capsys: pytest.CaptureFixture[str]) -> None:
    print_searched(make((SMALL, WHOLE), failed=1), Format.TABLE)
    table, said, variants = capsys.readouterr().out.split("\n\n")
    assert [line.split() for line in table.splitlines()] == [
        ["TRIAL", "ACCURACY", "WIRE", "PASSES"],
        ["trial-3", "91.0", "%", "2.0", "KiB", "prune-weights,", "int8"],
        ["trial-0", "97.0", "%", "8.8", "KiB", "as", "trained"],
    ]
    assert said.splitlines()[0] == "5 trials, 1 without a result; accuracy is that of the validation split"
    assert variants == "- name: trial-3\n- name: trial-0\n"


def test_a_search_that_found_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_searched(make((), failed=5), Format.TABLE)
    said = capsys.readouterr().out
    assert said.startswith("no trial gave a result\n")
    assert "variants" not in said


def test_programs_get_the_passes_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    print_searched(make((SMALL,)), Format.JSON)
    (one,) = json.loads(capsys.readouterr().out)["front"]
    assert (one["name"], one["passes"]) == ("trial-3", [{"pass": "prune-weights"}, {"pass": "int8"}])


@pytest.mark.parametrize(
    "words",
    [
        ("--search", "--version", "1.0.0"),
        ("--search", "--no-cache"),
        ("--search", "--remote"),
        ("--minutes", "3"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, ["build", "docs/examples/search.yaml", *words])
    assert done.exit_code == 2
    assert "searches" in done.stderr
