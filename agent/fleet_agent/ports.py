"""What the supervisor needs of its surroundings, so that a test can stand in for each."""

from collections.abc import Callable
from typing import Protocol

from fleet_agent.blackbox import Vital
from fleet_agent.telemetry.clock import Stamp
from fleet_agent.trust.protocol import TrustAnswer, TrustRequest
from fleet_agent.watch import Verdict
from fleet_agent.worker.protocol import WorkerSpec
from fleet_shared.topics import Channel


class Clock(Protocol):
    """``boot_s`` counts from boot ``boot_id``, including sleep."""

    boot_id: str

    def boot_s(self) -> float: ...

    def now(self) -> Stamp: ...


class Link(Protocol):
    """The way to the broker; `link.connection`. What comes of it arrives on the queue."""

    @property
    def session(self) -> str: ...

    def connect(self) -> None: ...

    def publish(self, channel: Channel, payload: bytes, *, retain: bool = False) -> bool: ...

    def give_up(self) -> bool: ...

    def close(self) -> None: ...


class Trust(Protocol):
    """The trust child; `trust_process`. ``answered`` is called once for each `start`, from any thread."""

    def start(self, request: TrustRequest, answered: Callable[[TrustAnswer], None]) -> None: ...

    def abort(self) -> None: ...


class Worker(Protocol):
    """One inference worker; `worker_process`. Only `wait` waits, and for as long as it is told. `look`
    tells what it is doing, also after its end."""

    @property
    def spec(self) -> WorkerSpec: ...

    @property
    def pid(self) -> int: ...

    def serve(self) -> None: ...

    def drain(self, linger_s: float | None = None) -> None: ...

    def stop(self) -> None: ...

    def kill(self, verdict: Verdict) -> None: ...

    def look(self) -> Vital: ...

    def wait(self, timeout_s: float) -> bool: ...
