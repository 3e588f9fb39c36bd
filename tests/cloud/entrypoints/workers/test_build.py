"""The build process as a process: its events, its exit codes, its standard output."""

import errno
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fleet_cloud.entrypoints.build_process import follow_build
from fleet_cloud.entrypoints.cli.connection import Connection
from fleet_cloud.entrypoints.workers.build import describe_failure, fetch_teachers, write_held_out
from fleet_cloud.errors import BuildError
from fleet_cloud.factory.events import (
    BackedOff,
    BuildEvent,
    Epoch,
    Failed,
    Found,
    Registered,
    Searched,
    Stage,
    StepBegan,
    StepEnded,
    Tried,
    VariantBuilt,
    Warned,
    parse_event,
)
from fleet_cloud.factory.recipe import load_recipe
from tests.kit.ports import free_port
from tests.kit.tiny_model import make_tiny_model


def run(*words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "fleet_cloud.entrypoints.workers.build", *words]
    return subprocess.run(command, capture_output=True, check=False)


def fail(*words: str) -> Failed:
    """Run, and return the last event; assert that every line is an event and no traceback is shown."""
    done = run(*words, "--server", f"http://127.0.0.1:{free_port()}")
    events = [parse_event(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert isinstance(events[-1], Failed)
    assert events[-1].hint
    return events[-1]


@pytest.mark.parametrize(
    "event",
    [
        Stage(name="data", detail="digits"),
        Epoch(epoch=1, epochs=3, loss=0.5, accuracy=0.25, seconds_left=2.0),
        StepBegan(subject="int8", step="prune-weights", number=1, steps=2),
        StepEnded(subject="float", step="training", cached=True, seconds=1.5, score=0.5),
        BackedOff(subject="int8", step="prune-weights", why="too low", change="sparsity 0.5 -> 0.375"),
        VariantBuilt(name="int8", size_bytes=9, accuracy=None, validation_accuracy=None, latency_p50_us=None),
        Warned(message="the golden vectors prove little"),
        Registered(model="digits", version="1.0.0", created=True),
        Tried(trial=3, passes="int8", against="wire", accuracy=0.5, cost=99.0),
        Searched(
            model="digits",
            target="litert",
            against="wire",
            trials=4,
            failed=1,
            front=(Found(name="trial-3", accuracy=0.5, cost=99.0, passes=({"pass": "int8"},)),),
            variants="- name: trial-3\n",
            file="/cache/search/digits.log",
        ),
        Failed(code="build.gate", message="too bad"),
    ],
)
def test_events_survive_the_line(event: BuildEvent) -> None:
    assert parse_event(msgspec.json.encode(event)) == event


def test_a_wrong_recipe_fails_before_anything_is_loaded(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{model: digits, training: {epocs: 3}}")
    failed = fail("recipe", str(recipe))
    assert failed.code == "recipe.invalid"
    assert "epochs" in failed.hint


def test_a_controller_that_is_away_is_noticed_before_the_training() -> None:
    assert fail("recipe", "docs/examples/digits.yaml").code == "controller.unreachable"


def test_a_search_needs_a_section_that_says_what_to_search() -> None:
    failed = fail("search", "docs/examples/digits.yaml")
    assert (failed.code, "search: {passes:" in failed.hint) == ("recipe.search", True)


def test_a_wrong_version_number_is_noticed_before_the_training() -> None:
    assert fail("recipe", "docs/examples/digits.yaml", "--version", "1.0").code == "name.invalid"


def test_an_import_of_what_is_no_model_fails(tmp_path: Path) -> None:
    (tmp_path / "fake.tflite").write_bytes(b"this is no model")
    assert fail("import", str(tmp_path / "fake.tflite"), "--name", "fake").code == "model.file.invalid"
    (tmp_path / "real.tflite").write_bytes(make_tiny_model())
    assert fail("import", str(tmp_path / "real.tflite"), "--name", "Not A Name").code == "name.invalid"


def test_preprocessing_of_an_import_reaches_the_contract_s_rules(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(make_tiny_model())
    import_ = ("import", str(tmp_path / "m.tflite"), "--name", "m")
    refused = fail(*import_, "--mean=-0.5,0.5", "--std=2", "--resize=area", "--fit=letterbox", "--pad=114")
    assert (refused.code, "mean has 2 numbers for 8" in refused.message) == ("model.preprocessing", True)
    assert "layout nchw" in fail(*import_, "--layout=nchw", "--colour=bgr").message
    assert fail(*import_, "--mean=-0.5", "--std=2").code == "controller.unreachable"


def test_the_test_split_is_written_as_a_source(tmp_path: Path) -> None:
    recipe = load_recipe(Path("docs/examples/digits.yaml"))
    write_held_out(recipe, tmp_path / "held-out.npz")
    with pytest.raises(BuildError) as caught:
        write_held_out(recipe, tmp_path / "held-out.csv")
    assert caught.value.code == "build.output"
    with np.load(tmp_path / "held-out.npz") as archive:
        assert archive["x"].shape[1:] == (8, 8, 1)
        assert len(archive["x"]) == len(archive["y"])
        assert set(archive["y"].tolist()) == set(range(10))


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's, which need not be loaded here."""


class OutOfMemory(ResourceExhaustedError): ...


@pytest.mark.parametrize(
    ("trouble", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "build.disk", "/data/x"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "build.disk", "no room left"),
        (MemoryError(), "build.memory", "not enough memory"),
        (OutOfMemory("OOM when allocating tensor with shape[9]"), "build.memory", "not enough memory"),
        (OutOfMemory("/data/x; No space left on device"), "build.disk", tempfile.gettempdir()),
        (ModuleNotFoundError("No module named 'keras'"), "build.factory.missing", "keras"),
        (BuildError("too bad", hint="train longer", code="build.gate"), "build.gate", "too bad"),
        (OSError(errno.EACCES, "Permission denied", "/data/x"), "build.failed", "Permission denied"),
    ],
)
def test_what_an_operator_can_do_something_about_has_a_code_of_its_own(
    trouble: Exception, code: str, said: str
) -> None:
    failed = describe_failure(trouble)
    assert (failed.code, said in failed.message) == (code, True)
    assert failed.hint or code == "build.failed"


class Registry:
    """Answers as a client does, from these artifacts."""

    def __init__(self, artifacts: dict[tuple[str, str, str], bytes]) -> None:
        self._artifacts = artifacts

    def read_artifact(self, model: str, version: str, name: str) -> bytes:
        return self._artifacts[model, version, name]


def test_teachers_that_are_versions_are_fetched(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "model: m\nteachers:\n  old: {version: 'digits:1.2.0'}\n"
        "  small: {version: 'digits:1.2.0', variant: int8}\n  new: {architecture: {kind: mlp}}\n"
    )
    registry: Any = Registry(
        {("digits", "1.2.0", "keras"): b"float", ("digits", "1.2.0", "keras/int8"): b"last of int8"}
    )
    found = fetch_teachers(registry, load_recipe(tmp_path / "recipe.yaml"))
    assert found == {"old": b"float", "small": b"last of int8"}


NOISY = """
import os, sys
from fleet_cloud.entrypoints.workers import build

def run(options, say):
    os.write(1, b"native chatter")
    print("library chatter", flush=True)
    say(build.Stage(name="data"))
    raise ZeroDivisionError("nobody thought of this")

build._build_recipe = run
sys.exit(build.main(["recipe", "any.yaml", "--server", "http://127.0.0.1:1"]))
"""


def test_chatter_stays_off_standard_output_and_a_defect_becomes_an_event() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, check=False)
    stage, failed = (parse_event(line) for line in done.stdout.splitlines())
    assert stage == Stage(name="data")
    assert isinstance(failed, Failed)
    assert failed.code == "build.failed"
    assert "nobody thought of this" in failed.message
    assert done.returncode == 1
    assert b"native chatter" in done.stderr
    assert b"library chatter" in done.stderr
    assert b"nobody thought of this" in done.stderr


def test_a_defect_leaves_a_log_behind_that_the_hint_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # the worker cannot even start
    with pytest.raises(BuildError) as caught:
        list(follow_build(["recipe", "any.yaml"], Connection("http://127.0.0.1:1", None)))
    assert caught.value.code == "build.process"
    log = Path(caught.value.hint.rpartition(" ")[2])
    assert "encodings" in log.read_text()
    log.unlink()


def test_an_expected_error_leaves_no_log_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(BuildError) as caught:
        list(follow_build(["recipe", "none.yaml"], Connection("http://127.0.0.1:1", None)))
    assert caught.value.code == "recipe.missing"
    assert not list(tmp_path.iterdir())


def test_events_and_the_process_itself_load_no_tensorflow() -> None:
    script = (
        "import sys; import fleet_cloud.entrypoints.workers.build; "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'numpy', 'ai_edge_litert')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
