"""A build that is killed in its middle goes on after its last finished pass, and gives the same bytes."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fleet_cloud.factory.events import BuildEvent, StepEnded, parse_event

RECIPE = """\
model: quarters
dataset: {kind: npz, path: quarters.npz}
architecture: {kind: mlp, units: 2}
training: {epochs: 2, batch_size: 32}
variants:
  - name: small
    passes:
      - {pass: prune-weights, tune: {epochs: 1, batch_size: 32}}
      - {pass: cluster, entries: 8, tune: {epochs: 1, batch_size: 32}}
"""

BUILD = """
import hashlib, sys
from pathlib import Path
import msgspec
from fleet_cloud.factory.build import build
from fleet_cloud.factory.cache import Cache
from fleet_cloud.factory.keeping import CacheKeeper, NoKeeper
from fleet_cloud.factory.recipe import load_recipe

def say(event):
    print(msgspec.json.encode(event).decode(), flush=True)

folder, *ways = sys.argv[1:]
for way in ways:
    keeper = CacheKeeper(Cache(Path(folder) / "cache", sys.exit)) if way == "kept" else NoKeeper()
    (package,) = build(load_recipe(Path(folder) / "recipe.yaml"), say, keeper=keeper).packages
    digest = hashlib.sha256(b"".join(package.blobs[role] for role in sorted(package.blobs))).hexdigest()
    Path(folder, way).write_text(digest)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(1)
    y = np.arange(160) % 4
    x = (random.random((160, 8)) + np.eye(8)[y]).astype(np.float32)
    np.savez(tmp_path / "quarters.npz", x=x, y=y)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def start(folder: Path, *ways: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder), *ways],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def read_steps(process: subprocess.Popen[bytes], last: str = "") -> list[tuple[str, bool]]:
    """Return the steps that have ended, up to the step ``last``, else to the end of the process."""
    steps: list[tuple[str, bool]] = []
    for line in process.stdout or ():
        event: BuildEvent = parse_event(line)
        if isinstance(event, StepEnded):
            steps.append((event.step, event.cached))
            if event.step == last:
                break
    return steps


@pytest.mark.long  # several processes that load TensorFlow
@pytest.mark.timeout(1800)
def test_a_build_that_was_killed_goes_on_after_its_last_finished_pass(folder: Path) -> None:
    with start(folder, "kept") as killed:
        assert read_steps(killed, "prune-weights") == [("training", False), ("prune-weights", False)]
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / "kept").exists()
    with start(folder, "kept") as resumed, start(folder, "undisturbed") as undisturbed:
        steps = [read_steps(one) for one in (resumed, undisturbed)]
    assert (resumed.returncode, undisturbed.returncode) == (0, 0)
    assert steps == [
        [("training", True), ("prune-weights", True), ("cluster", False)],
        [("training", False), ("prune-weights", False), ("cluster", False)],
    ]
    assert (folder / "kept").read_text() == (folder / "undisturbed").read_text()
    assert len((folder / "kept").read_text()) == len(hashlib.sha256().hexdigest())
