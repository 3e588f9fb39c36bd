"""Load a runtime by its name: the only place that imports an interpreter."""

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Runtime


def load_runtime(name: str) -> Runtime:
    """Return the runtime module's runtime; raise `WorkerError` (``worker.runtime.missing``)."""
    try:
        if name == "litert":
            from fleet_agent.runtimes.litert import LiteRt

            return LiteRt()
        if name == "tflite_runtime":
            from fleet_agent.runtimes.tflite_runtime import TfliteRuntime

            return TfliteRuntime()
    except ImportError as exc:
        raise WorkerError(
            f"runtime {name} cannot be loaded: {exc}",
            hint=f"install the agent's extra for {name} again",
            code="worker.runtime.missing",
        ) from exc
    raise WorkerError(
        f"runtime {name!r} is not known to this agent",
        hint="update the agent",
        code="worker.runtime.missing",
    )
