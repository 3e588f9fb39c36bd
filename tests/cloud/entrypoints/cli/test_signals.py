"""Commands that a signal ends leave no process and no folder behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.kit.background import DEFAULT_SIGNALS, start_fleet
from tests.kit.ports import free_port
from tests.kit.waiting import wait_for
from tests.kit.world import BIN, World

INTERRUPTED = "interrupted; {}\n"
SCRIPT = """
import signal, sys, time
from fleet_cloud.entrypoints.cli import run

def app():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)

run.app = app
run.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_runs_what_cleans_up_and_is_seen_by_whoever_waits(number: signal.Signals) -> None:
    command = [*DEFAULT_SIGNALS, sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "cleaned up\n"
        assert process.wait(10) == -number


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    command = ["nohup", sys.executable, "-c", SCRIPT.replace("time.sleep(60)", "input()")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.communicate("\n")[0] == "cleaned up\n"
        assert process.returncode == 0


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_build_ends_with_its_worker(
    shared_world: World, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = start_fleet(shared_world.controller.url, "build", "docs/examples/digits.yaml")
    assert process.stderr is not None
    assert process.stderr.readline() == "starting: model digits\n"
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 1
    process.send_signal(number)
    assert process.wait(20) == -number
    assert process.communicate()[1] == INTERRUPTED.format(
        "passes that have ended are kept: the same command goes on"
    )
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert not list(tmp_path.iterdir()), "its log explains nothing"


@pytest.mark.system
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_search_that_is_interrupted_says_how_to_go_on(
    number: signal.Signals, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C goes to the worker too, as to all processes of a terminal's group. Nobody is asked."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = start_fleet(
        f"http://127.0.0.1:{free_port()}", "build", "docs/examples/search.yaml", "--search", own_group=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "starting: model digits\n"
    workers = psutil.Process(process.pid).children()
    os.killpg(process.pid, number)
    out, said = process.communicate(timeout=60)
    assert (out, said) == (
        "",
        INTERRUPTED.format("trials that have ended are kept: the same command goes on"),
    )
    assert process.returncode == code
    assert len(workers) == 1
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert not list(tmp_path.iterdir()), "its log explains nothing"


@pytest.mark.system
def test_a_demo_ends_with_its_processes_and_its_folder(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*DEFAULT_SIGNALS, str(BIN / "fleet"), "demo"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert "API http://" in process.stdout.readline()
    started = psutil.Process(process.pid).children(recursive=True)
    assert started
    process.terminate()
    assert process.wait(40) == -signal.SIGTERM
    process.stdout.close()
    assert not psutil.wait_procs(started, timeout=10)[1]
    assert not list(tmp_path.glob("fleet-demo-*"))


@pytest.mark.system
def test_a_controller_still_stops_in_order(tmp_path: Path) -> None:
    command = [
        str(BIN / "fleet"),
        "serve",
        "--json",
        "--data",
        str(tmp_path / "d"),
        "--port",
        "0",
        "--broker-port",
        "0",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.terminate()
    wait_for("the controller to stop", lambda: process.poll() is not None, timeout_s=20)
    process.stdout.close()
    assert process.returncode == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
