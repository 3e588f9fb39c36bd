"""Real inference workers behind the supervisor's own code, without a controller."""

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from fleet_agent.leash import Terms
from fleet_agent.link.backoff import Backoff
from fleet_agent.serving import Listeners
from fleet_agent.worker.protocol import Failed, Ready, Serving, Trial, WorkerSpec
from fleet_agent.worker_process import WorkerExited, WorkerSaid
from fleet_agent.workers import Workers
from fleet_shared.messages.reported import Running
from fleet_shared.names import AssignmentId, Digest, ModelName, VariantName
from tests.kit.engine import manifest_of

LINGER_S = 5.0


TERMS: Final = Terms(soak_s=60.0)


@dataclass
class Device:
    """The sockets and the workers of one agent. ``slots``: the installed versions, by name."""

    listeners: Listeners
    unix_path: Path
    slots: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._inbox: queue.SimpleQueue[WorkerSaid | WorkerExited] = queue.SimpleQueue()
        self.workers = Workers(self._make_spec, self._inbox.put, Backoff(1.0, 2.0, Random(1).random))

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.listeners.port}"

    @property
    def unix(self) -> str:
        return f"unix:{self.unix_path}"

    def serve(self, version: str) -> float:
        """Start or swap to a version; return when it was told to serve, on the monotonic clock."""
        running = Running(
            model=ModelName("bench"), version=version, variant=VariantName("v"), manifest=Digest("a" * 64),
            assignment=AssignmentId(version), runtime="litert",
        )  # fmt: skip
        self.workers.try_out(running, TERMS)
        self._wait_for(Ready)
        switched_s = time.monotonic()
        self.workers.promote(running, TERMS)
        self._wait_for(Serving)
        return switched_s

    def _wait_for(self, kind: type[Ready | Serving]) -> None:
        while True:
            said = self._inbox.get(timeout=120)
            if isinstance(said, WorkerExited):
                self.workers.forget(said.worker)
            elif isinstance(said.message, Failed):
                raise AssertionError(said.message.failure)  # noqa: TRY004 - it is a word of the worker
            elif isinstance(said.message, kind):
                return

    def _make_spec(self, running: Running, _terms: Terms) -> WorkerSpec:
        return WorkerSpec(
            slot=str(self.slots[running.version]), manifest=manifest_of(self.slots[running.version]),
            assignment=running.assignment,
            runtime=running.runtime, threads=1, listen_fds=self.listeners.fds, stats_interval_s=60.0,
            linger_s=LINGER_S, trial=Trial(interval_s=60.0, lasts_s=60.0),
        )  # fmt: skip


@contextmanager
def running_device(folder: Path) -> Iterator[Device]:
    unix_path = folder / "inference.sock"
    listeners = Listeners(0, unix_path)
    device = Device(listeners, unix_path)
    try:
        yield device
    finally:
        device.workers.close()
        listeners.close()
