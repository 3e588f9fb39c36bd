"""A search as a process: its trials, what it keeps, and what it gives."""

from pathlib import Path

import pytest
import yaml

from fleet_cloud.entrypoints.build_process import follow_build
from fleet_cloud.entrypoints.cli.connection import Connection
from fleet_cloud.factory.events import BuildEvent, Searched, StepEnded, Tried
from fleet_cloud.factory.recipe import load_recipe
from tests.kit.ports import free_port

RECIPE = """\
model: digits
architecture: {kind: mlp, units: 2}
training: {epochs: 2}
gates: {size_max_bytes: %d}
search:
  against: size
  minutes: 1000
  trials: %d
  passes:
    - pass: prune-weights
      sparsity: {from: 0.3, to: 0.9}
      tune: {epochs: 0}
    - pass: %s
"""


def search(recipe: Path) -> tuple[list[BuildEvent], Searched]:
    """Nobody is asked: the controller may be away."""
    connection = Connection(f"http://127.0.0.1:{free_port()}", None)
    *events, last = follow_build(["search", str(recipe)], connection)
    assert isinstance(last, Searched)
    return events, last


@pytest.mark.long  # several processes that load TensorFlow
@pytest.mark.timeout(3600)
def test_a_search_goes_on_and_gives_variants_for_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_CACHE", str(tmp_path / "cache"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE % (10**6, 2, "{any: [int8, float16]}"))
    first, _ = search(recipe)
    assert [one.trial for one in first if isinstance(one, Tried)] == [0, 1]
    recipe.write_text(RECIPE % (10**6, 4, "{any: [int8, float16]}"))
    second, found = search(recipe)
    assert [one.trial for one in second if isinstance(one, Tried)] == [2, 3]
    assert [one.cached for one in second if isinstance(one, StepEnded) and one.subject == "float"] == [True]
    assert (found.trials, found.failed) == (4, 0)
    assert Path(found.file).parent == tmp_path / "cache" / "search"

    tried = {f"trial-{one.trial}": one for one in (*first, *second) if isinstance(one, Tried)}
    for one in found.front:
        assert (tried[one.name].accuracy, tried[one.name].cost) == (one.accuracy, one.cost)
    assert found.front[0].cost == min(one.cost or 0 for one in tried.values())
    document = {**yaml.safe_load(recipe.read_text()), "variants": yaml.safe_load(found.variants)}
    recipe.write_text(yaml.safe_dump(document))
    assert [one.name for one in load_recipe(recipe).variants] == [one.name for one in found.front]


@pytest.mark.long  # several processes that load TensorFlow
@pytest.mark.timeout(3600)
def test_trials_that_hold_no_gate_are_told_and_give_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "recipe.yaml").write_text(RECIPE % (100, 2, "float16"))
    events, found = search(tmp_path / "recipe.yaml")
    assert (found.front, found.trials, found.failed, found.variants) == ((), 2, 2, "")
    assert all("size_max_bytes 100" in one.why for one in events if isinstance(one, Tried))
