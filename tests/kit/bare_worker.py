"""Real workers on the listening sockets of one agent, swapped as the supervisor does it."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from fleet_agent.serving import Listeners
from fleet_agent.worker.protocol import (
    Drain,
    Drained,
    FromWorker,
    Ready,
    Serve,
    Serving,
    SourceSpec,
    WorkerSpec,
)
from fleet_shared.names import AssignmentId
from tests.kit.engine import manifest_of

WAIT_S = 60
M = TypeVar("M")


class BareWorker:
    def __init__(self, slot: Path, fds: tuple[int, ...], source: SourceSpec | None = None) -> None:
        self._control, theirs = socket.socketpair()
        self._control.settimeout(WAIT_S)
        self._lines = self._control.makefile("rb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fleet_agent.worker", "--control", str(theirs.fileno())],
            pass_fds=(theirs.fileno(), *fds),
        )
        theirs.close()
        self._send(
            WorkerSpec(
                slot=str(slot), manifest=manifest_of(slot), assignment=AssignmentId("a"), runtime="litert",
                threads=1, listen_fds=fds, stats_interval_s=0.5, linger_s=0.5,
                source=source,
            )
        )  # fmt: skip
        self.read(Ready)

    def serve(self) -> None:
        self._send(Serve())
        self.read(Serving)

    def drain(self) -> None:
        self._send(Drain())
        self.read(Drained)
        self.process.wait(WAIT_S)

    def end(self) -> None:
        self._lines.close()
        self._control.close()
        self.process.kill()
        self.process.wait(WAIT_S)

    def _send(self, message: object) -> None:
        self._control.sendall(msgspec.json.encode(message) + b"\n")

    def read(self, kind: type[M]) -> M:
        """Return the next message of ``kind``."""
        while line := self._lines.readline():
            message = msgspec.json.decode(line, type=FromWorker)
            if isinstance(message, kind):
                return message
        raise AssertionError(f"the worker ended before it said {kind}")


class Served:
    """What an agent serves: a socket that stays, and the workers behind it."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "inference.sock"
        self._listeners = Listeners(0, self.socket)
        self.port = self._listeners.port
        self._workers: list[BareWorker] = []

    def swap(self, slot: Path) -> None:
        """Start a worker for ``slot``, then let the old one go."""
        worker = BareWorker(slot, self._listeners.fds)
        worker.serve()
        old, self._workers = self._workers, [worker]
        for one in old:
            one.drain()
            one.end()

    def end(self) -> None:
        for worker in self._workers:
            worker.end()
        self._listeners.close()


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    served = Served(folder)
    try:
        yield served
    finally:
        served.end()
