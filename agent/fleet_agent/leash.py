"""A worker that was started and has not ended yet: what it may take, and how long it may take for what."""

import logging
from dataclasses import dataclass

from fleet_agent.ports import Worker
from fleet_agent.watch import Verdict, Watch
from fleet_shared.messages.reported import Failure, Running

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """How a model runs. ``soak_s`` and ``soak_inferences``: how long its trial takes at least (none: it is
    on no trial); ``memory_bytes_max``: what its worker may have beside the bound of the device;
    ``restarts_max``: so many restarts in its trial come quickly, whatever the device's budget."""

    soak_s: float | None = None
    soak_inferences: int = 0
    memory_bytes_max: int | None = None
    restarts_max: int = 0


@dataclass
class Leash:
    """A worker that was started and has not ended yet; ``left_s`` until it is killed for ``why`` (none: it
    waits for nothing). ``failure`` is what the worker itself said against its model."""

    worker: Worker
    running: Running
    terms: Terms
    watch: Watch
    left_s: float | None
    why: str
    failure: Failure | None = None
    killed: bool = False
    serves: bool = False

    def set(self, seconds: float, why: str) -> None:
        self.left_s, self.why = seconds, f"{why} {seconds:g} s"

    def free(self) -> None:
        self.left_s = None

    def shorten(self, passed_s: float) -> None:
        if self.left_s is None or self.killed:
            return
        self.left_s -= passed_s
        if self.left_s <= 0:
            self.kill(Verdict(code="worker.late", why=self.why))

    def look(self, passed_s: float) -> None:
        if not self.killed and (verdict := self.watch.judge(self.worker.look(), passed_s)) is not None:
            self.kill(verdict)

    def kill(self, verdict: Verdict) -> None:
        self.killed = True
        log.error("worker %s is killed, since %s", self.worker.pid, verdict.why)
        self.worker.kill(verdict)
