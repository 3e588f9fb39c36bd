"""What each process loads, and that the agent's wheel stands alone."""

import os
import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

import pytest

from fleet_shared.messages.desired import Policy
from tests.kit.packages import make_package, register
from tests.kit.world import ROOT, World, load_outcomes, wait_for_rollout

pytestmark = pytest.mark.system

HEAVY = {"tuf", "securesystemslib", "cryptography", "numpy", "ai_edge_litert", "tflite_runtime", "PIL"}
"""What belongs to the trust child and the worker, and never into the process that lives for months."""


def push_tiny(world: World) -> None:
    with world.client() as client:
        register(client, "tiny", make_package())
        rollout = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60))
        ended = wait_for_rollout(client, rollout.id)
        assert ended.state == "succeeded", ended


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


def test_the_supervisor_loads_no_interpreter_and_no_cryptography(world: World, tmp_path: Path) -> None:
    """After a whole update: the libraries that the running process has mapped, and at its end the
    modules that it has loaded, however late."""
    listing = tmp_path / "modules.txt"
    agent = world.add_agent("pi-1", wrapper=(sys.executable, "-m", "tests.kit.listing_agent", str(listing)))
    push_tiny(world)
    maps = Path(f"/proc/{agent.pid}/maps").read_text()
    assert "_sqlite3" in maps, "this looks at the wrong process"
    assert not [library for library in HEAVY if f"/{library}" in maps]
    assert agent.end() == 0
    loaded = {name.partition(".")[0] for name in listing.read_text().split()}
    assert {"fleet_agent", "paho", "urllib3", "psutil"} <= loaded, "this looks at the wrong process"
    assert not loaded & HEAVY


def test_the_supervisor_imports_no_tuf() -> None:
    code = (
        "import sys, fleet_agent.bootstrap, fleet_agent.enrol, fleet_agent.cli\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "fleet_agent" in loaded
    assert not loaded & HEAVY


REQUIRED = {
    "fleet_agent": {
        "cryptography", "fleet-shared", "msgspec", "paho-mqtt", "psutil", "securesystemslib", "tomli", "tuf",
        "typer", "typing-extensions", "urllib3",
    },
    "fleet_shared": {"msgspec", "typing-extensions", "zstandard"},
}  # fmt: skip
EXTRAS = {
    "litert": {"ai-edge-litert", "numpy", "pillow"},
    "tflite": {"numpy", "pillow", "tflite-runtime"},
    "openvino": {"numpy", "openvino", "pillow"},
    "tvm": {"ai-edge-litert", "apache-tvm", "numpy", "pillow"},
    "camera": {"opencv-python-headless"},
}
CLEAN = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "TMPDIR")}
"""No PYTHONPATH: nothing of this checkout may help the wheel."""


def build_wheels(uv: str, folder: Path) -> dict[str, Path]:
    for member in ("shared", "agent"):
        subprocess.run(
            [uv, "build", "--wheel", "--no-build-isolation", "--python", sys.executable,
             "--out-dir", str(folder), str(ROOT / member)],
            check=True, capture_output=True,
        )  # fmt: skip
    wheels = {wheel.name.partition("-")[0]: wheel for wheel in folder.glob("*.whl")}
    assert set(wheels) == set(REQUIRED)
    return wheels


def load_requirements(wheel: Path) -> dict[str, set[str]]:
    """Return what a wheel asks for, by extra; without an extra under an empty name."""
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        headers = HeaderParser().parsestr(archive.read(name).decode())
    found: dict[str, set[str]] = {}
    for line in headers.get_all("Requires-Dist", []):
        requirement, _, marker = line.partition(";")
        extra = marker.partition("extra ==")[2].strip(" '\"")
        bare = requirement
        for sign in "<>=!~ [":
            bare = bare.partition(sign)[0]
        found.setdefault(extra, set()).add(bare)
    return found


def install(uv: str, wheels: dict[str, Path], venv: Path) -> None:
    """Let the resolver find what the wheels ask for, in the versions of the lock."""
    subprocess.run([uv, "venv", "--python", sys.executable, str(venv)], check=True, capture_output=True)
    agent = f"fleet-agent[litert] @ {wheels['fleet_agent'].as_uri()}"
    done = subprocess.run(
        [uv, "pip", "install", "--python", str(venv), "--constraint", str(ROOT / "locks/agent.txt"),
         agent, str(wheels["fleet_shared"])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    checked = subprocess.run(
        [uv, "pip", "check", "--python", str(venv)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_agents_wheel_installs_and_works_alone(world: World, tmp_path: Path) -> None:
    """From an environment that holds nothing but the wheel and what it asks for, the agent enrols, takes a
    push (which starts the trust child and the worker) and reports back."""
    uv = subprocess.run(["scripts/uv"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    wheels, venv = build_wheels(uv, tmp_path / "wheels"), tmp_path / "venv"
    assert load_requirements(wheels["fleet_agent"]) == {"": REQUIRED["fleet_agent"], **EXTRAS}
    assert load_requirements(wheels["fleet_shared"]) == {"": REQUIRED["fleet_shared"]}
    install(uv, wheels, venv)
    find = (
        "import importlib.util as util\n"
        "print([name for name in {} if util.find_spec(name)], util.find_spec('fleet_agent').origin)"
    )
    foreign = ["fleet_cloud", "sqlalchemy", "fastapi", "boto3", "amqtt", "tensorflow", "httpx", "alembic"]
    done = subprocess.run(
        [str(venv / "bin/python"), "-c", find.format(foreign)],
        capture_output=True, text=True, check=True, cwd=tmp_path, env=CLEAN,
    )  # fmt: skip
    assert done.stdout.startswith(f"[] {venv}"), done.stdout
    started = subprocess.run(
        [str(venv / "bin/fleet-agent"), "run", "--state", str(tmp_path / "nobody")],
        capture_output=True, text=True, cwd=tmp_path, env=CLEAN, check=False,
    )  # fmt: skip
    assert started.returncode == 1
    assert "error[agent.not_enrolled]" in started.stderr
    agent = world.add_agent("pi-1", binary=venv / "bin/fleet-agent", inherited=CLEAN)
    push_tiny(world)
    with world.client() as client:
        assert load_outcomes(client, "pi-1") == ["update.succeeded"]
    assert agent.end() == 0
