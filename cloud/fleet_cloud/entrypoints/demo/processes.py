"""The demo's processes: a controller and agents, each with its log; all end with the demo."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from fleet_cloud.client.views import RolloutView
from fleet_cloud.errors import CloudError
from fleet_cloud.local import load_local

END_TIMEOUT_S: Final = 20.0


class DemoError(CloudError):
    code = "demo.failed"


class ControllerAddresses(msgspec.Struct, frozen=True):
    api: str
    broker: str
    database: str
    blobs: str
    data: str
    local: str

    @property
    def token(self) -> str:
        """That of an admin, which the controller left in its data folder."""
        found = load_local(Path(self.data))
        if found is None:
            raise DemoError(f"the controller left no token in {self.data}")
        return found.token

    @property
    def ca_file(self) -> str | None:
        found = load_local(Path(self.data))
        return None if found is None else found.ca_file


@dataclass
class Processes:
    """Started here, ended here, in the opposite order."""

    logs: Path
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process whose output goes to its log; its standard output can be read."""
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
            )
        self._running.append(process)
        return process

    def close(self) -> None:
        for process in reversed(self._running):
            process.terminate()
        for process in reversed(self._running):
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def start_controller(self, folder: Path) -> ControllerAddresses:
        """Start ``fleet serve`` on free ports and wait until it answers."""
        fleet = str(Path(sys.executable).with_name("fleet"))
        command = [fleet, "serve", "--json", "--data", str(folder), "--port", "0", "--broker-port", "0"]
        process = self.start("controller", command, {"FLEET_TICK_INTERVAL_S": "0.3"})
        line = process.stdout.readline() if process.stdout is not None else b""
        if not line:
            raise DemoError("the controller did not start", hint=f"see {self.logs / 'controller.log'}")
        return msgspec.json.decode(line, type=ControllerAddresses)

    def push(self, addresses: ControllerAddresses, *words: str) -> RolloutView:
        """Run ``fleet push`` as an operator does, its progress on standard error, and return how the
        rollout ended; raise `DemoError` when it gives no answer."""
        fleet = str(Path(sys.executable).with_name("fleet"))
        command = [fleet, "--server", addresses.local, "push", *words, "--output", "json"]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            check=False,
            env={**os.environ, "FLEET_DATA": addresses.data},
        )
        try:
            return msgspec.json.decode(done.stdout, type=RolloutView)
        except msgspec.MsgspecError as exc:
            raise DemoError(f"fleet push ended with exit code {done.returncode} and no answer") from exc

    def run(self, name: str, command: Sequence[str]) -> None:
        """Run a command to its end; raise `DemoError` when it fails."""
        with (self.logs / f"{name}.log").open("ab") as log:
            code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
        if code:
            raise DemoError(f"{name} ended with exit code {code}", hint=f"see {self.logs / name}.log")
