"""``fleet recipe``: check, new, schema, as an operator sees them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fleet_cloud.entrypoints.cli.app import app
from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.cache import Cache
from fleet_cloud.factory.data import load_splits
from fleet_cloud.factory.keys import digest_splits, make_training_key
from fleet_cloud.factory.recipe import load_recipe


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["recipe", *words], catch_exceptions=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "build"


def test_check_shows_what_would_be_built(cache: Path) -> None:
    done = run("check", "docs/examples/digits.yaml")
    assert done.exit_code == 0, done
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0].startswith("digits from digits: ")
    assert "float 1/1 training to compute" in lines
    assert "int8 1/1 int8 to compute" in lines
    assert "fp32 litert as trained accuracy_min 0.95, accuracy_drop_max 0.01" in lines
    assert lines[-1] == "2 steps, 0 of them in the cache"


def test_check_knows_what_is_in_the_cache(cache: Path) -> None:
    recipe = load_recipe(Path("docs/examples/digits.yaml"))
    splits = load_splits(recipe.dataset, recipe.training.seed)
    key = make_training_key(digest_splits(splits), recipe.architecture, recipe.training)
    Cache(cache, pytest.fail).keep(key, {"model.keras": b""})
    done = run("check", "docs/examples/digits.yaml", "-o", "json")
    plan = json.loads(done.stdout)["plan"]
    assert [(step["subject"], step["cached"]) for step in plan["steps"]] == [("float", True), ("int8", False)]


def test_check_names_every_mistake_with_its_hint_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "{model: Digits, variants: [{name: a, passes: [{pass: int8}, {pass: train}]}, {name: a}]}"
    )
    done = run("check", str(path))
    assert done.exit_code == 1
    assert not done.stdout
    said = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in said if not line.startswith("  ")] == 3 * [
        "error[recipe.invalid]"
    ]
    assert f"error[recipe.invalid]: {path}: model name 'Digits'" in said[0]
    assert "train after int8: the number format of the file is chosen last" in done.stderr
    assert sum(line.startswith("  hint: ") for line in said) == 3
    described = json.loads(run("check", str(path), "-o", "json").stdout)
    assert [problem["key"] for problem in described["problems"]] == [
        "model",
        "variants",
        "variants[0].passes[1]",
    ]


def test_check_reads_the_data_too(tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(b"no archive")
    (tmp_path / "recipe.yaml").write_text("{model: m, dataset: {kind: npz, path: data.npz}}")
    done = run("check", str(tmp_path / "recipe.yaml"))
    assert isinstance(done.exception, RecipeError)
    assert done.exception.code == "recipe.data.invalid"


def test_new_writes_a_recipe_that_is_right_and_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert run("new", str(path)).exit_code == 0
    assert load_recipe(path).model == "digits"
    schema = json.loads((tmp_path / "recipe.schema.json").read_text())
    assert schema["title"] == "Fleet recipe"
    assert schema == json.loads(run("schema").stdout)
    assert path.read_text() == run("new").stdout


def test_new_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    done = run("new", str(path))
    assert isinstance(done.exception, RecipeError)
    assert done.exception.code == "recipe.exists"
    assert path.read_text() == "mine"
    missing = run("new", str(tmp_path / "nowhere" / "x.yaml"))
    assert isinstance(missing.exception, RecipeError)
    assert missing.exception.code == "recipe.output"


SCRIPT = """
import sys
from typer.testing import CliRunner
from fleet_cloud.entrypoints.cli.app import app
done = CliRunner().invoke(app, ["recipe", "check", "docs/examples/digits.yaml"])
sys.exit(done.exit_code or any(name in sys.modules for name in ("tensorflow", "keras", "ai_edge_litert")))
"""


def test_check_loads_no_tensorflow() -> None:
    assert subprocess.run([sys.executable, "-c", SCRIPT], check=False).returncode == 0
