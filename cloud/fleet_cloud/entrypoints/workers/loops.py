"""The controller's loops: each a thread that goes on whatever one turn does."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fleet_cloud.errors import CloudError

log = logging.getLogger(__name__)

BACKOFF_S: Final = 1.0


@dataclass
class Loop:
    """Calls ``turn`` again and again; a turn returns the seconds to wait before the next.

    `wake` cuts the wait short. A turn that fails is logged, and tried again after a pause.
    """

    name: str
    turn: Callable[[], float]
    _stop: threading.Event = field(default_factory=threading.Event)
    _wake: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self._wake.wait(self._turn())

    def _turn(self) -> float:
        try:
            return self.turn()
        except CloudError as exc:
            log.error("%s: %s (%s)", self.name, exc.message, exc.code)
        except Exception:  # the guard of the thread: one bad turn must not end the loop
            log.exception("%s: a turn failed", self.name)
        return BACKOFF_S
