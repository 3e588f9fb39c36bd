"""The demo, as a person and as a program read it: a trained model, real agents, two attacks that fail."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.background import DEFAULT_SIGNALS
from tests.kit.tflite_agent import find_tflite_agent
from tests.kit.waiting import wait_for
from tests.kit.world import BIN

pytestmark = pytest.mark.system

TIMEOUT_S = 200.0


class Demo:
    """``fleet demo`` in a session of its own, with its outputs in files. ``cache``: of its build."""

    def __init__(self, folder: Path, cache: Path, *words: str) -> None:
        self.folder = folder
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                [*DEFAULT_SIGNALS, str(BIN / "fleet"), "demo", *words],
                stdout=out,
                stderr=err,
                env={**os.environ, "TMPDIR": str(folder), "FLEET_CACHE": str(cache)},
                start_new_session=True,
            )

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def find_processes(self) -> list[int]:
        """Return everything that was started by it, whoever its parent is now."""
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [pid for pid in pids if self._started(pid)]

    def _started(self, pid: int) -> bool:
        try:
            return os.getsid(pid) == self.process.pid
        except ProcessLookupError:
            return False


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all demos: who shows it once more does not train once more."""
    return tmp_path_factory.mktemp("cache")


@contextmanager
def running_demo(folder: Path, cache: Path, *words: str) -> Iterator[Demo]:
    """Whatever the test finds, all processes of the demo end with it."""
    demo = Demo(folder, cache, *words)
    try:
        yield demo
    finally:
        for pid in demo.find_processes():
            os.kill(pid, signal.SIGKILL)
        demo.process.wait()


def parse(text: str) -> dict[str, Any] | None:
    """Return the document in ``text``; none while it is not whole."""
    try:
        document: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError:
        return None
    return document


def check_report(report: dict[str, Any]) -> None:
    variants = {variant["name"]: variant for variant in report["model"]["variants"]}
    accuracy = {name: variant["accuracy"] for name, variant in variants.items()}
    assert accuracy["int8"] >= 0.96
    assert accuracy["fp32"] - accuracy["int8"] <= 0.01
    assert 10_000 < variants["int8"]["bytes"] < variants["fp32"]["bytes"] / 2
    devices = report["devices"]
    assert [device["state"] for device in devices] == ["succeeded"] * 3
    assert {device["version"] for device in devices} == {report["model"]["version"]}
    assert all(device["accuracy"] >= 0.9 for device in devices)
    assert all(device["p50_ms"] > 0 and device["rss_mib"] > 0 for device in devices)
    other = "tflite_runtime" if find_tflite_agent() else "litert"
    assert [device["runtime"] for device in devices] == ["litert", "litert", other]
    assert report["telemetry"]["lost"] == 0
    assert report["telemetry"]["duplicates"] >= 0  # a slow machine answers a batch twice
    assert report["telemetry"]["samples"] > 0
    assert [(refusal["device"], refusal["what"], refusal["code"]) for refusal in report["refused"]] == [
        ("pi-1", "a blob with one flipped byte", "transfer.digest"),
        ("pi-3", "a desired state signed by a foreign key", "trust.desired.signature"),
    ]
    assert 0 < report["seconds"]["push"] < TIMEOUT_S
    assert 0 < report["seconds"]["build"] < TIMEOUT_S


def test_a_program_gets_one_document_while_everything_is_kept_running(tmp_path: Path, cache: Path) -> None:
    with running_demo(tmp_path, cache, "--devices", "3", "--json", "--keep") as demo:

        def look() -> dict[str, Any] | None:
            assert demo.process.poll() is None, demo.stderr
            return parse(demo.stdout)

        report = wait_for("the document", look, TIMEOUT_S)
        check_report(report)
        wait_for("the addresses", lambda: "export FLEET_SERVER=http://127.0.0.1:" in demo.stderr)
        assert "broker  mqtts://127.0.0.1:" in demo.stderr
        exported = demo.stderr.rpartition("export ")[2].splitlines()[0].split()
        listed = subprocess.run(
            [str(BIN / "fleet"), "device", "list"],
            env={**os.environ, **dict(one.split("=", 1) for one in exported)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert listed.stdout.count("online") == 3
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(60) == 0, demo.stderr
        assert parse(demo.stdout) == report, "nothing else is on standard output"
        assert demo.find_processes() == []


def test_a_person_reads_a_story_and_nothing_is_left(tmp_path: Path, cache: Path) -> None:
    with running_demo(tmp_path, cache, "--devices", "2") as demo:
        assert demo.process.wait(TIMEOUT_S) == 0, demo.stderr
        assert demo.find_processes() == []
    assert not list(tmp_path.glob("fleet-*"))
    lines = demo.stdout.splitlines()
    chapters = [line[:2] for line in lines if line[:1].isdigit()]
    assert chapters == ["1.", "2.", "3.", "4.", "5.", "6."]
    table = lines[next(i for i, line in enumerate(lines) if line.split()[:2] == ["device", "version"]) :][1:3]
    assert [row.split()[:3] for row in table] == [["pi-1", "1.0.0", "int8"], ["pi-2", "1.0.0", "int8"]]
    assert "pi-1 refuses a blob with one flipped byte" in demo.stdout
    assert "pi-2 refuses a desired state signed by a foreign key" in demo.stdout
    assert "all 2 devices go on with digits:1.0.0" in demo.stdout
    assert lines[-1].startswith("done: build ")
    assert "succeeded" not in demo.stdout, "the push itself says it, on standard error"
    assert demo.stderr.count("pi-1: succeeded") == 1
