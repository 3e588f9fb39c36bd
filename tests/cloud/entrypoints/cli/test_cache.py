"""``fleet cache``: what builds keep on this machine."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fleet_cloud.entrypoints.cli.app import app
from fleet_cloud.factory.cache import Cache


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["cache", *words], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_CACHE", str(tmp_path))
    return tmp_path / "build"


def fill(folder: Path, count: int) -> None:
    cache = Cache(folder, pytest.fail)
    for number in range(count):
        key = f"{number:064x}"
        cache.keep(key, {"model.keras": bytes(600_000)}, f"digits: variant-{number}, int8")
        os.utime(folder / key, (number + 1.0, number + 1.0))


def test_an_empty_cache_says_where_it_would_be(folder: Path) -> None:
    assert run("list").stdout == f"nothing is kept in {folder}\n"
    assert run("prune").stdout == "removed 0 results, 0 B\n"


def test_list_and_prune(folder: Path) -> None:
    fill(folder, 3)
    listed = run("list").stdout.splitlines()
    assert [line.split()[1] for line in listed[1:4]] == ["variant-0,", "variant-1,", "variant-2,"]
    assert listed[-1].startswith("3 results, 1.7 MiB in ")
    assert run("prune", "--keep-mb", "1").stdout.startswith("removed 2 results, ")
    (left,) = json.loads(run("list", "-o", "json").stdout)
    assert left["label"] == "digits: variant-2, int8"
    assert run("prune", "--all").stdout.startswith("removed 1 results, ")
    assert not list(folder.iterdir())


def test_prune_without_words_holds_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, 3)
    assert run("prune").stdout.startswith("removed 0 results")
    monkeypatch.setenv("FLEET_CACHE_MAX_BYTES", "1300000")
    assert run("prune").stdout.startswith("removed 1 results")
