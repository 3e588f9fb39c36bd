"""What each process loads, and that the agent's wheel stands alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.packages import make_package, register
from tests.kit.world import World, wait_for_rollout

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


def test_help_imports_neither_tensorflow_nor_sqlalchemy_nor_paho() -> None:
    code = (
        "import sys\n"
        "from fleet_cloud.entrypoints.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "typer" in loaded
    assert not loaded & {"tensorflow", "keras", "sqlalchemy", "paho", "numpy", "fastapi", "boto3"}


def test_the_supervisor_maps_no_interpreter_and_no_cryptography(world: World) -> None:
    """Looks at what the running process has mapped, after a whole update went through it."""
    agent = world.add_agent("pi-1")
    with world.client() as client:
        register(client, "tiny", make_package())
        rollout = client.create_rollout("tiny", "all", variant=None, soak_s=0.2, deadline_s=60)
        assert wait_for_rollout(client, rollout.id).state == "succeeded"
    maps = Path(f"/proc/{agent.pid}/maps").read_text()
    assert "_sqlite3" in maps, "this looks at the wrong process"
    for library in ("numpy", "ai_edge_litert", "tflite_runtime", "cryptography", "PIL"):
        assert f"/{library}" not in maps, library


def test_the_supervisor_imports_no_tuf() -> None:
    code = (
        "import sys, fleet_agent.bootstrap, fleet_agent.enrol, fleet_agent.cli\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "fleet_agent" in loaded
    assert not loaded & {"tuf", "securesystemslib", "cryptography", "numpy", "ai_edge_litert", "PIL"}


def test_the_agents_wheel_installs_and_starts_alone(tmp_path: Path) -> None:
    uv = subprocess.run(["scripts/uv"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    for member in ("shared", "agent"):
        subprocess.run(
            [uv, "build", "--wheel", "--no-build-isolation", "--python", sys.executable,
             "--out-dir", str(tmp_path), str(ROOT / member)],
            check=True, capture_output=True,
        )  # fmt: skip
    venv = tmp_path / "venv"
    subprocess.run([uv, "venv", "--python", sys.executable, str(venv)], check=True, capture_output=True)
    install = [uv, "pip", "install", "--python", str(venv)]
    subprocess.run(
        [*install, "--require-hashes", "-r", str(ROOT / "locks/agent.txt")], check=True, capture_output=True
    )
    wheels = [str(wheel) for wheel in tmp_path.glob("*.whl")]
    assert len(wheels) == 2
    subprocess.run([*install, "--no-deps", *wheels], check=True, capture_output=True)
    python = str(venv / "bin" / "python")
    for name in ("fleet_cloud", "sqlalchemy", "fastapi", "boto3", "amqtt", "tensorflow"):
        found = subprocess.run(
            [python, "-c", f"import {name}"], capture_output=True, cwd=tmp_path, check=False
        )
        assert found.returncode == 1, f"{name} is importable beside the agent"
    agent = [str(venv / "bin" / "fleet-agent")]
    subprocess.run([*agent, "--help"], check=True, capture_output=True, cwd=tmp_path)
    started = subprocess.run(
        [*agent, "run", "--state", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert started.returncode == 1
    assert "error[agent.not_enrolled]" in started.stderr
