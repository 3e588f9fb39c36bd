"""Whether a worker is well: it makes progress, and keeps within its memory. Pure.

Time is what passed while the supervisor's loop ran: a machine that slept is no worker's fault.
"""

from dataclasses import dataclass, field
from typing import Final

from fleet_agent.blackbox import Doing, Vital
from fleet_agent.growth import WINDOW_S, Growth
from fleet_shared.limits import MIB
from fleet_shared.messages.telemetry import Detail

SILENT_S: Final = 30.0


@dataclass(frozen=True)
class Bounds:
    """``hang_s``: how long one inference may take; ``silent_s``: how long an idle worker may go without a
    beat. ``memory_bytes``: its resident memory at most; ``growth_bytes``: by how much the memory of a warm
    worker may rise and go on rising (none: not judged), ``growth_window_s`` over which its floor is taken."""

    hang_s: float = 60.0
    silent_s: float = SILENT_S
    memory_bytes: int | None = None
    growth_bytes: int | None = None
    growth_window_s: float = WINDOW_S


@dataclass(frozen=True)
class Verdict:
    """Why a worker must end."""

    code: str
    why: str
    detail: Detail = field(default_factory=dict)


@dataclass
class Watch:
    """One worker from its start to its end."""

    bounds: Bounds
    rss_start_bytes: int | None = None
    rss_max_bytes: int = 0
    _growth: Growth = field(init=False)
    _started: int = -1
    _ended: int = -1
    _beats: int = -1
    _busy_s: float = 0.0
    _silent_s: float = 0.0

    def __post_init__(self) -> None:
        self._growth = Growth(self.bounds.growth_window_s)

    def judge(self, vital: Vital, passed_s: float) -> Verdict | None:
        """Take up what the worker is doing, ``passed_s`` after the last look; return why it must end."""
        return self._judge_progress(vital, passed_s) or self._judge_memory(vital, passed_s)

    def _judge_progress(self, vital: Vital, passed_s: float) -> Verdict | None:
        stuck = vital.is_busy and (vital.started, vital.ended) == (self._started, self._ended)
        self._busy_s = self._busy_s + passed_s if stuck else 0.0
        silent = not vital.is_busy and vital.beats == self._beats
        self._silent_s = self._silent_s + passed_s if silent else 0.0
        self._started, self._ended, self._beats = vital.started, vital.ended, vital.beats
        if self._busy_s > self.bounds.hang_s:
            why = f"inference {vital.started} made no progress for {self._busy_s:.1f} s"
            detail: Detail = {"busy_s": round(self._busy_s, 1), "bound_s": self.bounds.hang_s}
            return Verdict(code="worker.hung", why=why, detail=detail)
        if vital.doing in (Doing.READY, Doing.SERVING) and self._silent_s > self.bounds.silent_s:
            why = f"it gave no sign of life for {self.bounds.silent_s:g} s"
            detail = {"silent_s": round(self._silent_s, 1), "bound_s": self.bounds.silent_s}
            return Verdict(code="worker.hung", why=why, detail=detail)
        return None

    def _judge_memory(self, vital: Vital, passed_s: float) -> Verdict | None:
        rss = vital.rss_bytes
        if rss is None:
            return None
        self.rss_max_bytes = max(self.rss_max_bytes, rss)
        if self.rss_start_bytes is None and vital.doing in (Doing.READY, Doing.SERVING):
            self.rss_start_bytes = rss
        bound = self.bounds.memory_bytes
        if bound is not None and rss > bound:
            why = f"it holds {rss / MIB:.1f} MiB of memory, and may have {bound / MIB:.1f} MiB"
            return Verdict(code="worker.memory", why=why, detail=self._memory(rss, bound))
        if vital.doing is not Doing.SERVING:
            return None
        risen, allowed = self._growth.take(rss, passed_s), self.bounds.growth_bytes
        if allowed is None or risen is None or risen <= allowed:
            return None
        why = f"its memory has risen by {risen / MIB:.1f} MiB since it was warm, and goes on rising"
        detail = {**self._memory(rss, allowed), "risen_bytes": risen}
        return Verdict(code="worker.memory", why=why, detail=detail)

    def _memory(self, rss: int, bound: int) -> Detail:
        return {"rss_start_bytes": self.rss_start_bytes, "rss_bytes": rss, "bound_bytes": bound}
