"""The real worker on the real LiteRT, with models that do real harm to their process.

``python -m tests.kit.faulty_worker --control FD ...``, in place of ``fleet_agent.worker``. What is wrong
with a model stands behind the end of its file (`spoil`), where the interpreter does not look: so a good
and a bad version run on one agent, and only the bad one does what it does.
"""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.loading import load_runtime
from fleet_agent.runtimes.port import Array, Model, Runtime
from fleet_agent.worker import __main__ as worker
from fleet_agent.worker import run

MARK: Final = b"\nFAULT "
LEAK_BYTES: Final = 256 * 1024 * 1024
SLOW_LEAK_BYTES: Final = 512 * 1024
SLOW_S: Final = 0.03
_KEPT: Final[list[bytearray]] = []


def spoil(model: bytes, fault: str, first_call: int = 0) -> bytes:
    """Return the model with a fault from its call number ``first_call`` on (golden vectors count), or at its
    loading: ``load-segfault`` and ``load-exit``."""
    return model + MARK + f"{fault} {first_call}".encode()


def crash() -> None:
    ctypes.string_at(0)


def hang() -> None:
    time.sleep(3600)


def hang_with_the_interpreter() -> None:
    """No other thread of this process runs any more."""
    ctypes.PyDLL(None).sleep(3600)


def leak() -> None:
    _KEPT.append(bytearray(os.urandom(1) * LEAK_BYTES))


def leak_slowly() -> None:
    _KEPT.append(bytearray(os.urandom(1) * SLOW_LEAK_BYTES))


def fail() -> None:
    raise WorkerError("it does not work", code="worker.invoke")


FAULTS: Final[Mapping[str, Callable[[], None]]] = MappingProxyType(
    {
        "load-segfault": crash,
        "load-exit": lambda: os._exit(3),
        "segfault": crash,
        "hang": hang,
        "hang-with-the-interpreter": hang_with_the_interpreter,
        "leak": leak,
        "slow-leak": leak_slowly,
        "fail": fail,
        "slow": lambda: time.sleep(SLOW_S),
    }
)


class FaultyRuntime:
    def __init__(self, real: Runtime) -> None:
        self._real = real
        self.name, self.version = real.name, real.version

    def load(self, path: str, threads: int) -> Model:
        _, found, words = Path(path).read_bytes().rpartition(MARK)
        fault, first_call = words.decode().split() if found else ("", "0")
        do = FAULTS.get(fault)
        if do is not None and fault.startswith("load-"):
            do()
        model = self._real.load(path, threads)
        return model if do is None else FaultyModel(model, do, int(first_call))


class FaultyModel:
    def __init__(self, real: Model, fault: Callable[[], None], first_call: int) -> None:
        self._real, self._fault, self._first_call = real, fault, first_call
        self._calls = 0
        self.inputs, self.outputs = real.inputs, real.outputs

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        self._calls += 1
        if self._calls >= self._first_call:
            self._fault()
        return self._real.invoke(inputs)


if __name__ == "__main__":
    setattr(run, "load_runtime", lambda *words: FaultyRuntime(load_runtime(*words)))  # noqa: B010
    sys.exit(worker.main())
