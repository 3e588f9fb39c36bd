"""A build on shared workers, with real processes: one is killed in the middle, another takes the job over."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.people import KIT_TOKEN
from tests.kit.processes import end_process
from tests.kit.waiting import wait_for
from tests.kit.world import BIN, ROOT, World, running_world

pytestmark = [pytest.mark.system, pytest.mark.long]
RECIPE = """\
model: digits
training: {epochs: 1, seed: 1}
variants: [{name: fp32}]
"""
BUILT_WITHIN_S = 600.0


def command(world: World, *words: str) -> list[str]:
    return [str(BIN / "fleet"), "--server", world.controller.url, "--token", KIT_TOKEN, *words]


@contextmanager
def working(world: World, name: str) -> Iterator[subprocess.Popen[bytes]]:
    words = command(world, "worker", "builds", "--name", name, "--once")
    with (world.folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=ROOT)
    try:
        yield process
    finally:
        end_process(process, signal.SIGKILL)


@pytest.mark.timeout(900)
def test_a_killed_worker_gives_its_build_back(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    with (
        running_world(tmp_path, environment={"FLEET_BUILD_LEASE_S": "3"}) as world,
        world.client() as client,
    ):
        watcher = subprocess.Popen(
            command(world, "build", str(recipe), "--remote", "--output", "json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        with working(world, "first") as first:
            job = wait_for(
                "the first worker to build",
                lambda: next((one for one in client.builds() if one.worker == "first"), None),
                timeout_s=240,
            )
            wait_for(
                "the build to say something", lambda: client.build_events(job.id, 0) or None, timeout_s=240
            )
            first.kill()
        with working(world, "second"):
            shown, lines = watcher.communicate(timeout=BUILT_WITHIN_S)
        ended = client.build(job.id)
        versions = client.versions("digits")
    assert watcher.returncode == 0, lines.decode()
    assert (ended.state, ended.worker, ended.attempt) == ("succeeded", "second", 2)
    assert ended.version in {version.version for version in versions}
    assert b'"version"' in shown
    assert b"first went silent" in lines, "the watcher hears of it"
    assert b"fp32" in lines
