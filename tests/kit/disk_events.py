"""Listen to what this process does to its disk: `fleet_shared.durable` tells it as audit events."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fleet_shared.durable import DISK_EVENT


@dataclass(frozen=True)
class DiskEvent:
    """``moment``: "before" or "after"; ``target`` is where a rename leads to, else empty."""

    operation: str
    moment: str
    path: str
    target: str


Listener = Callable[[DiskEvent], None]
_listeners: list[Listener] = []
_installed: list[bool] = []


def _hook(event: str, args: tuple[object, ...]) -> None:
    if event == DISK_EVENT:
        for listener in _listeners.copy():
            listener(DiskEvent(*(str(arg) for arg in args)))


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """``listener`` is called with every event, in the thread that acts; what it raises, the operation
    raises. An audit hook stays for the life of the process: there is one for all listeners."""
    if not _installed:
        _installed.append(True)
        sys.addaudithook(_hook)
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
