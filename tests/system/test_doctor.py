"""``fleet-agent doctor`` and ``status`` on a real device: enrolled or not, running or stopped, broken."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench.agent_memory import push
from tests.kit.waiting import wait_for
from tests.kit.world import Agent, World

pytestmark = pytest.mark.system


OBEDIENT = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


def run(state: Path, *words: str, wrapper: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*wrapper, sys.executable, "-m", "fleet_agent", *words, "--state", str(state)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr, done
    return done


def examine(state: Path, *, code: int) -> dict[str, tuple[str, str]]:
    done = run(state, "doctor", "--json")
    assert done.returncode == code, done
    return {one["check"]: (one["verdict"], one["message"]) for one in json.loads(done.stdout)}


def test_a_device_that_is_not_enrolled_says_so_and_nothing_is_made(tmp_path: Path) -> None:
    state = tmp_path / "state"
    found = examine(state, code=1)
    assert found["enrolment"] == ("failed", "this device is not enrolled")
    assert found["agent"][0] == "skipped", "to start it would not help"
    assert {"clock", "disk", "memory", "runtime"} <= found.keys()
    assert "error[agent.not_enrolled]" in run(state, "status").stderr
    assert not state.exists()


def test_a_healthy_device_running_and_stopped_and_each_trouble_is_found(world: World) -> None:
    agent = world.add_agent("pi-1")
    push(world, 1)
    wait_for("all checks to pass", lambda: run(agent.state, "doctor").returncode == 0)
    found = examine(agent.state, code=0)
    wanted = (
        "agent",
        "enrolment",
        "certificate",
        "trust",
        "link",
        "controller",
        "model",
        "worker",
        "last update",
        "outbox",
    )
    assert {name: found[name][0] for name in wanted} == dict.fromkeys(wanted, "ok"), found
    assert found["model"][1] == "tiny:1.0.0 (fp32), whole by its digests"
    status = run(agent.state, "status").stdout
    assert "agent     runs\n" in status
    assert "update    tiny:1.0.0 succeeded" in status
    assert "link      is connected for" in status
    assert agent.end() == 0

    before = sorted(path.name for path in agent.state.rglob("*"))
    found = examine(agent.state, code=1)
    assert found["agent"] == ("failed", "it does not run")
    assert found["worker"] == ("skipped", "the agent does not run")
    assert found["outbox"][0] == "ok"
    assert "agent     does not run\n" in run(agent.state, "status").stdout
    assert sorted(path.name for path in agent.state.rglob("*")) == before, "looking leaves no file"
    world.controller.end()
    break_device(agent)
    found = examine(agent.state, code=1)
    for name in ("certificate", "link", "model"):
        assert found[name][0] == "failed", found[name]
    assert "may be read by others" in found["certificate"][1]
    assert "its files are not what was released" in found["model"][1]
    assert found["controller"][0] == "attention"


def break_device(agent: Agent) -> None:
    (agent.state / "identity/key.pem").chmod(0o644)
    (model,) = (agent.state / "slots").glob("*/model.tflite")
    model.write_bytes(model.read_bytes()[:-1] + b"?")


def test_a_state_that_may_not_be_read_is_a_matter_of_permission_and_not_of_damage(world: World) -> None:
    """A root that may do all is made to obey the mode of files, as any other user."""
    agent = world.add_agent("pi-1")
    assert agent.end() == 0
    agent.state.chmod(0o000)
    wrapper = OBEDIENT if os.geteuid() == 0 else []
    try:
        for words in (["status"], ["doctor"]):
            done = run(agent.state, *words, wrapper=wrapper)
            assert done.returncode == 1
            said = done.stdout + done.stderr
            assert "may not be read by this user" in said
            assert "damaged" not in said
            assert "enrol this device again" not in said
    finally:
        agent.state.chmod(0o700)
