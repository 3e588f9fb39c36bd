"""Work that must not slow down who is serving: a new model loads and proves itself beside the old one.

On Linux a thread has its own nice value and hands it on to the threads that it starts; without
privileges it can be made nicer, never less nice again. So such work gets a thread of its own, and it
must be of a kind that leaves no threads behind for later: a pool of an interpreter would stay slow for
ever. That holds for TFLite's interpreters with one thread.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from fleet_agent.worker.protocol import WorkerSpec

T = TypeVar("T")

NICE: Final = 15
STARTS_NO_THREADS: Final = frozenset({"litert", "tflite_runtime"})


def may_load_gently(spec: WorkerSpec) -> bool:
    """Whether there is somebody to be considerate of, and no thread would stay slow."""
    return spec.trial is not None and spec.threads == 1 and spec.runtime in STARTS_NO_THREADS


def run_gently(work: Callable[[], T]) -> T:
    """Do ``work`` at low priority, and return or raise what it does."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        with suppress(OSError):  # then at the usual one
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            results.append(work())
        except BaseException as exc:  # noqa: BLE001 - it is raised again by who waits
            errors.append(exc)

    thread = threading.Thread(target=run, name="gently", daemon=True)
    thread.start()
    thread.join()
    for error in errors:
        raise error
    return results[0]
