"""Take a message from a queue, with a time-out that holds on every Python.

Python 3.10 waits for ever in ``SimpleQueue.get(timeout)`` when the time is over between two looks of its
own: it goes on with a negative time, which means none (seen within seconds with a time-out of 0; a machine
that swaps does it with any). A supervisor that hangs there is what this agent must not be, and JetPack 6 has
Python 3.10. Another queue does not do: only this one may be filled by a signal handler.
"""

import queue
import sys
import time
from typing import Final, TypeVar

T = TypeVar("T")

LOOK_EVERY_S: Final = 0.02
"""On Python 3.10 only."""


def take(inbox: "queue.SimpleQueue[T]", timeout_s: float) -> T | None:
    """Return the next message, none if none comes within ``timeout_s``."""
    try:
        if timeout_s > 0 and sys.version_info >= (3, 11):
            return inbox.get(timeout=timeout_s)
        return inbox.get_nowait() if timeout_s <= 0 else _look_for(inbox, timeout_s)
    except queue.Empty:
        return None


def _look_for(inbox: "queue.SimpleQueue[T]", timeout_s: float) -> T:
    deadline_s = time.monotonic() + timeout_s
    while inbox.empty() and (left_s := deadline_s - time.monotonic()) > 0:
        time.sleep(min(LOOK_EVERY_S, left_s))
    return inbox.get_nowait()
