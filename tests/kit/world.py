"""A controller and agents as real processes, with everything they need in one folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from fleet_cloud.client import Client
from fleet_cloud.client.views import EventView, RolloutView, TotalsView
from tests.kit.people import KIT_TOKEN
from tests.kit.processes import end_process
from tests.kit.waiting import wait_for

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
FAST_AGENT = {
    "FLEET_AGENT_SAMPLE_INTERVAL_S": "0.2",
    "FLEET_AGENT_STATS_INTERVAL_S": "0.5",
    "FLEET_AGENT_LINGER_S": "0.5",
    # The others take seconds to be tried at the first start; tests that are about them say so.
    "FLEET_AGENT_RUNTIMES": "litert,tflite_runtime",
}


@dataclass
class Controller:
    """``port`` and the port of its own broker are chosen by the kernel at the first start, and kept."""

    folder: Path
    options: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    broker_port: int = 0
    scheme: str = "http"
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        options = {"port": str(self.port), **self.options}
        if "broker" not in options:
            options["broker-port"] = str(self.broker_port)
        flags = [word for key, value in options.items() for word in (f"--{key}", value)]
        with (self.folder / "controller.log").open("ab") as log:
            process = self._process = subprocess.Popen(
                [str(BIN / "fleet"), "serve", "--json", *flags],
                stdout=subprocess.PIPE,
                stderr=log,
                env={
                    **os.environ,
                    "FLEET_API_TOKEN": KIT_TOKEN,
                    **self.environment,
                    "FLEET_TICK_INTERVAL_S": "0.2",
                },
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (self.folder / "controller.log").read_text()
        addresses = json.loads(line)
        api = urlsplit(addresses["api"])
        self.scheme, self.port = api.scheme, api.port or 0
        self.broker_port = urlsplit(addresses["broker"].partition(" ")[0]).port or 0

    def end(self, number: int = signal.SIGTERM) -> int:
        """Return the exit code, 0 for one that does not run."""
        process, self._process = self._process, None
        return 0 if process is None else end_process(process, number)


@dataclass
class Agent:
    """``wrapper``: words that start the agent in place of ``binary``. ``inherited``: the environment
    that it starts from. The kernel chooses its port for inference at each start."""

    name: str
    folder: Path
    controller_url: str
    binary: Path = BIN / "fleet-agent"
    wrapper: Sequence[str] = ()
    source: Path | None = None
    inherited: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    environment: Mapping[str, str] = field(default_factory=dict)
    state_folder: Path | None = None
    _process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        return self.state_folder or self.folder / self.name

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def http_port(self) -> int:
        """Where it serves inference."""
        process = psutil.Process(self.pid)

        def look() -> int | None:
            sockets = process.net_connections("tcp")
            return next((found.laddr.port for found in sockets if found.status == psutil.CONN_LISTEN), None)

        return wait_for(f"{self.name} to listen", look)

    def enrol(self, token: str) -> None:
        command = [str(self.binary), "enrol", self.controller_url, "--token", token]
        done = subprocess.run(
            [*command, "--id", self.name, "--state", str(self.state)],
            capture_output=True,
            text=True,
            check=False,
            env=dict(self.inherited),
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        command = [*self.wrapper] or [str(self.binary)]
        command += ["run", "--state", str(self.state), "--http-port", "0"]
        if self.source is not None:
            command += ["--source", str(self.source), "--source-rate-hz", "50"]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**self.inherited, **FAST_AGENT, **self.environment},
            )

    def wait_for_end(self, timeout_s: float = 60) -> int:
        assert self._process is not None
        code = self._process.wait(timeout_s)
        self._process = None
        return code

    def end(self, number: int = signal.SIGTERM) -> int:
        """Return the exit code, 0 for one that does not run."""
        process, self._process = self._process, None
        return 0 if process is None else end_process(process, number)

    def read_record(self) -> dict[str, object]:
        file = self.state / "update.json"
        return json.loads(file.read_text()) if file.exists() else {}


@dataclass
class World:
    folder: Path
    controller: Controller
    agents: list[Agent] = field(default_factory=list)

    def client(self) -> Client:
        return Client(self.controller.url, KIT_TOKEN)

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

    def end(self) -> dict[str, int]:
        """End everything that runs, agents first; return the exit codes by name."""
        codes = {agent.name: agent.end() for agent in self.agents}
        return {**codes, "controller": self.controller.end()}


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


def wait_for_all_until_now(client: Client, device: str) -> TotalsView:
    """Return the account of a device once the controller has everything that was stored before now: rows
    travel in order, so a sample that is younger comes after all of them."""
    now_ms = time.time() * 1000

    def look() -> TotalsView | None:
        series = client.series(device, metric="cpu_percent", source="host", since_ms=0, limit=1)
        newest = max((point.at_ms for one in series for point in one.points), default=0)
        totals = client.totals(device)
        return totals if newest > now_ms and totals.pending == 0 else None

    # After a long outage the next try to connect may be a minute away.
    return wait_for(f"the outbox of {device} to empty", look, timeout_s=120)


def load_outcomes(client: Client, device: str) -> list[str]:
    """Return the names of all outcomes that the device has reported, once nothing is on its way."""
    wait_for_all_until_now(client, device)
    return [event.name for event in client.events(device) if event.name.startswith("update.")]


@contextmanager
def running_world(
    folder: Path, options: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[World]:
    """A controller with ``options``; the embedded broker, SQLite and a folder without. At the end every
    process must end by itself when it is asked to."""
    given = {"data": str(folder / "controller"), **(options or {})}
    world = World(folder, Controller(folder, given, environment or {}))
    try:
        world.controller.start()
        yield world
    except BaseException:
        world.end()  # what went wrong is said by the exception
        raise
    codes = world.end()
    assert not any(codes.values()), f"exit codes {codes}"
