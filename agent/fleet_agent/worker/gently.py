"""Work that must not slow down who is serving: a new worker imports, loads and proves itself beside the old
one.

On Linux a thread has its own nice value and hands it on to the threads that it starts; without
privileges it can be made nicer, never less nice again. So such work gets a thread of its own, and it
must be of a kind that leaves no threads behind for later. This module is what such a process imports
first: it needs little itself.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

T = TypeVar("T")

NICER: Final = 10
"""Added to the priority: about a tenth of a processor for which both compete. More would hold an update up
for ever on a machine that is always busy."""
NICE_MAX: Final = 19


def run_gently(work: Callable[[], T]) -> T:
    """Do ``work`` at low priority, and return or raise what it does."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        with suppress(OSError):  # then at the usual one
            own = threading.get_native_id()
            nice = os.getpriority(os.PRIO_PROCESS, own) + NICER
            os.setpriority(os.PRIO_PROCESS, own, min(nice, NICE_MAX))
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
