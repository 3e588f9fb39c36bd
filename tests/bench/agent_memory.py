"""What the supervisor holds when it is idle, beside a bare Python and beside the bare imports, and whether it
stays there over updates and telemetry rows.

Memory is PSS (Linux, smaps_rollup): what is shared with other processes counts by its share. The agent is
the real one, enrolled at a real controller and online.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from fleet_shared.messages.desired import Policy
from tests.kit.packages import make_package, register
from tests.kit.waiting import wait_for
from tests.kit.world import Agent, World, running_world, wait_for_rollout

COMMAND = (sys.executable, "-m", "fleet_agent")
IDLE_LIMIT_MIB = 30.0
GROWTH_MIB = 2.0
UPDATES = 20
ROWS = 100_000
BURST = 200
SETTLE_S = 3.0
MIB = 2**20
BARE = {
    "bare python": "",
    "bare imports (paho, msgspec, psutil)": "import paho.mqtt.client, msgspec, psutil",
    "bare imports, urllib3, sqlite3": "import paho.mqtt.client, msgspec, psutil, urllib3, sqlite3",
}


def compiled(folder: str) -> dict[str, str]:
    """pip compiles what it installs on a device; compiling at each start would leave its memory behind."""
    return {"PYTHONPYCACHEPREFIX": f"{folder}/byte-code", "PYTHONDONTWRITEBYTECODE": ""}


def load_pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss in smaps_rollup")


def measure_bare(code: str, environment: Mapping[str, str]) -> int:
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}\nprint(flush=True)\ninput()"],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        return load_pss_bytes(process.pid)
    finally:
        process.communicate(b"\n")


def measure_idle(agent: Agent) -> int:
    """The highest of a few looks, after it came to rest."""
    time.sleep(SETTLE_S)
    looks = []
    for _ in range(5):
        looks.append(load_pss_bytes(agent.pid))
        time.sleep(0.2)
    return max(looks)


def measure_agent_memory() -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder, running_world(Path(folder)) as world:
        environment = {
            **compiled(folder),
            "FLEET_AGENT_SAMPLE_INTERVAL_S": "10",
            "FLEET_AGENT_STATS_INTERVAL_S": "10",
        }
        agent = world.add_agent("pi-1", environment=environment, wrapper=COMMAND)
        agent.end()  # from now on its modules lie there as byte code, as they do on a device
        agent.start()
        found = {name: measure_bare(code, environment) for name, code in BARE.items()}
        found["supervisor, idle"] = measure_idle(agent)
        push(world, 1)
        found["supervisor, idle after a push"] = measure_idle(agent)
    return [
        {
            "process": name,
            "pss_mib": round(size / MIB, 1),
            "at_most_mib": IDLE_LIMIT_MIB if "idle" in name else None,
        }
        for name, size in found.items()
    ]


def measure_agent_growth() -> list[dict[str, object]]:
    """20 updates and 100,000 rows, all of them acknowledged by the controller: what stays of them."""
    with tempfile.TemporaryDirectory() as folder, running_world(Path(folder)) as world:
        wrapper = (sys.executable, "-m", "tests.kit.chatty_agent", str(BURST))
        agent = world.add_agent("pi-1", environment=compiled(folder), wrapper=wrapper)
        push(world, 1)
        found = [_look(world, agent, 1)]
        for number in range(2, UPDATES + 2):
            push(world, number)
            if number % 5 == 1:
                found.append(_look(world, agent, number))
        with world.client() as client:
            wait_for("all rows to arrive", lambda: client.totals("pi-1").samples >= ROWS, timeout_s=900)
        found.append(_look(world, agent, UPDATES + 1))
    return found


def _look(world: World, agent: Agent, updates: int) -> dict[str, object]:
    pss = measure_idle(agent)
    with world.client() as client:
        rows = client.totals("pi-1").samples
    return {
        "updates": updates,
        "rows": rows,
        "pss_mib": round(pss / MIB, 1),
        "growth_at_most_mib": GROWTH_MIB,
    }


def push(world: World, number: int) -> None:
    with world.client() as client:
        register(client, "tiny", make_package(seed=number))
        rollout = client.create_rollout(
            "tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=120)
        )
        ended = wait_for_rollout(client, rollout.id)
        assert ended.state == "succeeded", ended
