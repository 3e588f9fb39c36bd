"""Load a runtime by its name: the only place that imports an interpreter."""

from pathlib import Path

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Runtime


def load_runtime(name: str, cache: Path | None = None) -> Runtime:
    """Return the runtime module's runtime; raise `WorkerError` (``worker.runtime.missing``).

    ``cache``: folder for what a runtime compiles; none keeps nothing.
    """
    try:
        runtime = _load(name, cache)
    except Exception as exc:  # a broken package raises anything while it is imported
        raise WorkerError(
            f"runtime {name} cannot be loaded: {exc}",
            hint=f"install the agent's extra for {name} again",
            code="worker.runtime.missing",
        ) from exc
    if runtime is None:
        raise WorkerError(
            f"runtime {name!r} is not known to this agent",
            hint="update the agent",
            code="worker.runtime.missing",
        )
    return runtime


def _load(name: str, cache: Path | None) -> Runtime | None:
    found: Runtime | None = None
    if name == "litert":
        from fleet_agent.runtimes.litert import LiteRt

        found = LiteRt()
    elif name == "tflite_runtime":
        from fleet_agent.runtimes.tflite_runtime import TfliteRuntime

        found = TfliteRuntime()
    elif name == "openvino":
        from fleet_agent.runtimes.openvino import OpenVino

        found = OpenVino()
    elif name == "tvm":
        from fleet_agent.runtimes.tvm import Tvm

        found = Tvm(cache)
    elif name == "tensorrt":
        from fleet_agent.runtimes.tensorrt import TensorRt

        found = TensorRt(cache)
    return found
