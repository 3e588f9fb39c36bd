"""A controller and agents as real processes, with everything they need in one folder."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fleet_cloud.client import Client
from fleet_cloud.client.views import EventView, RolloutView
from tests.kit.ports import free_port
from tests.kit.waiting import wait_for

BIN = Path(sys.executable).parent
FAST_AGENT = {
    "FLEET_AGENT_SAMPLE_INTERVAL_S": "0.2",
    "FLEET_AGENT_STATS_INTERVAL_S": "0.5",
    "FLEET_AGENT_LINGER_S": "0.5",
}


@dataclass
class Controller:
    folder: Path
    options: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        flags = [word for key, value in self.options.items() for word in (f"--{key}", value)]
        with (self.folder / "controller.log").open("ab") as log:
            process = subprocess.Popen(
                [str(BIN / "fleet"), "serve", "--json", "--port", str(self.port), *flags],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self.environment, "FLEET_TICK_INTERVAL_S": "0.2"},
            )
        self._process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (self.folder / "controller.log").read_text()
        assert json.loads(line)["api"] == self.url

    def end(self, number: int = signal.SIGTERM) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        code = process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
        return code


@dataclass
class Agent:
    name: str
    folder: Path
    controller_url: str
    binary: Path = BIN / "fleet-agent"
    source: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    http_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        return self.folder / self.name

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def enrol(self, token: str) -> None:
        command = [str(self.binary), "enrol", self.controller_url, "--token", token]
        done = subprocess.run(
            [*command, "--id", self.name, "--state", str(self.state)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def start(self, crash_at: str | None = None) -> None:
        """Start the agent; with ``crash_at`` it kills itself once its record says that state."""
        command = [str(self.binary)]
        if crash_at is not None:
            command = [sys.executable, "-m", "tests.kit.crashing_agent", crash_at]
        command += ["run", "--state", str(self.state), "--http-port", str(self.http_port)]
        if self.source is not None:
            command += ["--source", str(self.source), "--source-rate-hz", "50"]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **FAST_AGENT, **self.environment}
            )

    def wait_for_end(self, timeout_s: float = 60) -> int:
        assert self._process is not None
        code = self._process.wait(timeout_s)
        self._process = None
        return code

    def end(self, number: int = signal.SIGTERM) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        return self.wait_for_end()

    def read_record(self) -> dict[str, object]:
        file = self.state / "update.json"
        return json.loads(file.read_text()) if file.exists() else {}


@dataclass
class World:
    folder: Path
    controller: Controller
    agents: list[Agent] = field(default_factory=list)

    def client(self) -> Client:
        return Client(self.controller.url)

    def add_agent(self, name: str, **options: object) -> Agent:
        """Enrol and start an agent, and wait until the controller has seen it."""
        url = str(options.pop("controller_url", self.controller.url))
        agent = Agent(name, self.folder, url, **options)  # type: ignore[arg-type]  # the dataclass's own fields
        with self.client() as client:
            agent.enrol(client.create_token({"name": name}, life_s=600))
            self.agents.append(agent)
            agent.start()
            wait_for(f"{name} to report itself", lambda: client.device(name).reported)
        return agent


def wait_for_rollout(client: Client, rollout: str, timeout_s: float = 90) -> RolloutView:
    def look() -> RolloutView | None:
        view = client.rollout(rollout)
        return view if view.state != "running" else None

    return wait_for("the rollout to end", look, timeout_s)


def wait_for_outcomes(client: Client, device: str, count: int) -> list[EventView]:
    """Return the outcomes of a device, once there are ``count``. A rollout may end a moment before
    the outcome itself arrives: the device's report is enough to close an assignment."""

    def look() -> list[EventView] | None:
        found = [event for event in client.events(device) if event.name.startswith("update.")]
        return found if len(found) >= count else None

    return wait_for(f"{count} outcomes of {device}", look)


@contextmanager
def running_world(
    folder: Path, options: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[World]:
    """A controller with ``options``; the embedded broker, SQLite and a folder without."""
    given = {"data": str(folder / "controller"), "broker-port": str(free_port()), **(options or {})}
    world = World(folder, Controller(folder, given, environment or {}))
    world.controller.start()
    try:
        yield world
    finally:
        for agent in world.agents:
            agent.end()
        world.controller.end()
