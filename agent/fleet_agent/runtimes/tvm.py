"""TVM (package apache-tvm): imports the file into Relax and compiles it for this processor.

Compiled on first load and kept (see `compiled`), by the model's bytes, TVM's version and the target.
Linking needs a C compiler (``cc``); without one the model is compiled anew at every load, in memory.
The importer turns integer arithmetic into dequantize, float, quantize: right, and seldom fast.

TVM has a pool of threads for each thread that calls it, as large as the machine, and binds both to its
first processors. So one thread of our own does all that is asked of a model, its pool has as many threads
as were asked for, and nothing is bound.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.compiled import CompiledCache, make_key
from fleet_agent.runtimes.model_file import load_signature
from fleet_agent.runtimes.port import Array, Model, TensorInfo, fit
from fleet_agent.runtimes.tflite_schema import install_schema

log = logging.getLogger(__name__)


class Tvm:
    """``cache``: none compiles at every load."""

    name = "tvm"

    def __init__(self, cache: Path | None = None) -> None:
        install_schema()
        import tvm

        self._tvm: Any = tvm
        self._cache = None if cache is None else CompiledCache(cache)
        self.version = version("apache-tvm")

    def load(self, path: str, threads: int) -> Model:
        signature = load_signature(path)
        # Read whenever a thread gets its pool.
        os.environ |= {"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0"}
        caller = ThreadPoolExecutor(1, thread_name_prefix="tvm")
        try:
            machine = caller.submit(self._load_machine, Path(path).read_bytes()).result()
            return TvmModel(self._tvm, machine, caller, signature.inputs, signature.outputs)
        except Exception as exc:  # whatever its importer and compiler raise
            raise WorkerError(
                f"TVM rejects the model: {str(exc).strip() or type(exc).__name__}",
                hint="build a variant for this runtime, or allow another runtime on this device",
                code="worker.model.rejected",
            ) from exc

    def _load_machine(self, content: bytes) -> Any:
        target = self._tvm.target.Target.from_device("cpu")
        key = make_key(content, (self.version, str(target)))
        library = None if self._cache is None else self._cache.find(key)
        if library is not None and (machine := self._open(library)) is not None:
            return machine
        executable = _compile(self._tvm, content, target)
        if self._cache is not None:
            library = self._cache.store(key, lambda file: _link(executable, file))
            if library is not None and (machine := self._open(library)) is not None:
                return machine
        from tvm import relax

        return relax.VirtualMachine(executable, self._tvm.cpu())

    def _open(self, library: Path) -> Any:
        """Return the virtual machine of a kept library; none where the system does not load it."""
        from tvm import relax

        try:
            return relax.VirtualMachine(self._tvm.runtime.load_module(str(library)), self._tvm.cpu())
        except Exception as exc:  # noqa: BLE001 - whatever it is, the model can be compiled again
            log.warning("the compiled model cannot be loaded, and is made again: %s", exc)
            return None


class TvmModel:
    """A compiled model, used by the only thread of ``caller``."""

    def __init__(
        self,
        tvm: Any,
        machine: Any,
        caller: ThreadPoolExecutor,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        self._tvm, self._main, self._caller = tvm, machine["main"], caller
        self._machine = machine
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        return self._caller.submit(self._invoke, inputs).result()

    def _invoke(self, inputs: Sequence[Array]) -> list[Array]:
        try:
            given = [self._tvm.runtime.tensor(np.ascontiguousarray(array)) for array in inputs]
            answer = self._main(*given)
            found = [answer] if hasattr(answer, "numpy") else list(answer)
            return [fit(one.numpy(), info) for one, info in zip(found, self.outputs, strict=True)]
        except Exception as exc:  # TVM raises its own kinds
            raise WorkerError(f"inference failed: {str(exc).strip()}", code="worker.invoke") from exc


def _compile(tvm: Any, content: bytes, target: Any) -> Any:
    import tflite
    from tvm.relax.frontend.tflite import from_tflite

    return tvm.compile(from_tflite(tflite.Model.GetRootAs(content, 0)), target=target)


def _link(executable: Any, file: Path) -> None:
    """Raises `OSError` when there is no compiler to link with."""
    try:
        executable.export_library(str(file))
    except Exception as exc:
        raise OSError(f"it cannot be linked: {exc}") from exc
