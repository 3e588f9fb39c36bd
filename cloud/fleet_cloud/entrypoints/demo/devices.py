"""The demo's devices: real agents, one of them on tflite-runtime where that can be had."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet_cloud.client import Client
from fleet_cloud.entrypoints.demo.processes import DemoError, Processes

SITES: Final = ("berlin", "lisbon", "oslo")
SOURCE_RATE_HZ: Final = "250"


@dataclass(frozen=True, slots=True)
class DemoDevice:
    id: str
    site: str
    agent: Path
    state: Path


def plan_devices(count: int, folder: Path) -> list[DemoDevice]:
    """Return the devices; the last one runs on tflite-runtime if its environment is there."""
    own, other = find_agent(), find_tflite_agent()
    devices = []
    for number in range(1, count + 1):
        name = f"pi-{number}"
        agent = other if other is not None and number == count and count > 1 else own
        devices.append(DemoDevice(name, SITES[(number - 1) % len(SITES)], agent, folder / name))
    return devices


def find_agent() -> Path:
    """Return the agent's command beside this Python; raise `DemoError` when it is not installed."""
    agent = Path(sys.executable).with_name("fleet-agent")
    if not agent.exists():
        raise DemoError(
            f"{agent} is not there: the demo needs the agent in the same environment",
            hint="pip install 'fleet-agent[litert]', or run: make demo",
            code="demo.agent.missing",
        )
    return agent


def find_tflite_agent() -> Path | None:
    """Return the agent of the environment that `make` keeps for tflite-runtime, if it is there."""
    agent = Path(sys.prefix).parent / ".venvs" / "agent-tflite" / "bin" / "fleet-agent"
    return agent if agent.exists() else None


def start_device(device: DemoDevice, api: str, source: Path, client: Client, processes: Processes) -> None:
    """Enrol the device with a token of its own, and start its agent."""
    token = client.create_token({"site": device.site}, life_s=600)
    state = str(device.state)
    processes.run(
        f"{device.id}-enrol",
        [str(device.agent), "enrol", api, "--token", token, "--id", device.id, "--state", state],
    )
    command = [str(device.agent), "run", "--state", state, "--http-port", "0", "--source", str(source)]
    processes.start(
        device.id,
        [*command, "--source-rate-hz", SOURCE_RATE_HZ],
        {
            "FLEET_AGENT_SAMPLE_INTERVAL_S": "1",
            "FLEET_AGENT_STATS_INTERVAL_S": "1",
            "FLEET_AGENT_LINGER_S": "1",
            # Others may be installed, and take seconds to be tried at the first start.
            "FLEET_AGENT_RUNTIMES": "litert,tflite_runtime",
        },
    )
