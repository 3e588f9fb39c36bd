"""How a worker ended, as operators read it: a code, plain words, and what it was doing. Pure."""

import signal
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from fleet_agent.blackbox import Doing, Vital
from fleet_agent.watch import Verdict
from fleet_shared.messages.reported import Failure
from fleet_shared.messages.telemetry import Detail

CRASHES: Final = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGABRT,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
)
"""Signals by which native code ends itself."""

_HINTS: Final = MappingProxyType(
    {
        "worker.crashed": "native code of the runtime or the model crashed: build a variant for another "
        "runtime, or update the runtime",
        "worker.killed": "if memory ran out, the kernel's log says so (dmesg); lower threads, or "
        "push a smaller variant",
        "worker.hung": "its log is in the agent's log; if one inference takes this long, raise worker_hang_s",
        "worker.memory": "the model or its runtime leaks, or needs more than it may have: "
        "memory_bytes_max of the push, or worker_memory_bytes_max of the device",
        "worker.late": "is the device overloaded? the worker's log is in the agent's log",
    }
)
_HINT: Final = "its log is in the agent's log"


@dataclass(frozen=True)
class WorkerEnd:
    """``detail`` is the evidence: what it was doing, and the numbers."""

    failure: Failure
    detail: Detail = field(default_factory=dict)


@dataclass(frozen=True)
class _Cause:
    code: str
    how: str


def explain_end(exit_code: int, vital: Vital, verdict: Verdict | None = None) -> WorkerEnd:
    """``exit_code`` as `subprocess` gives it (minus a signal's number), ``verdict``: why the agent killed
    it."""
    detail: Detail = {
        "doing": vital.doing.value,
        "inferences": vital.ended,
        "in_inference": vital.is_busy,
        "rss_bytes": vital.rss_bytes,
    }
    cause = _find_cause(exit_code, detail)
    if verdict is not None:
        cause = _Cause(verdict.code, f"killed, since {verdict.why}")
    failure = Failure(
        code=cause.code,
        message=f"the inference worker ended: {cause.how}; it was {_describe(vital)}",
        hint=_HINTS.get(cause.code, _HINT),
    )
    return WorkerEnd(failure, {**detail, **(verdict.detail if verdict is not None else {})})


def _find_cause(exit_code: int, detail: Detail) -> _Cause:
    """Return what the exit code says; ``detail`` gets the signal or the exit code."""
    if exit_code >= 0:
        detail["exit_code"] = exit_code
        return _Cause(code="worker.exited", how=f"exit code {exit_code}")
    try:
        number = signal.Signals(-exit_code)
    except ValueError:
        detail["signal"] = str(-exit_code)
        return _Cause(code="worker.killed", how=f"killed by signal {-exit_code}")
    detail["signal"] = number.name
    if number in CRASHES:
        return _Cause(code="worker.crashed", how=f"crashed with {number.name}")
    return _Cause(code="worker.killed", how=f"killed by {number.name}")


def _describe(vital: Vital) -> str:
    words = {Doing.LOADING: "loading the model", Doing.READY: "ready to serve"}
    doing = words.get(vital.doing, vital.doing.value)
    if vital.is_busy:
        return f"{doing}, in inference {vital.started}"
    return f"{doing}, after {vital.ended} inferences" if vital.ended else doing
