"""Whether installed models are still what they were: read through in a thread of its own, one at a time.

At each start the active and the previous one, and whoever's worker could not load it.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet_agent.slots import Slots
from fleet_shared.messages.reported import Running

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlotInspected:
    """``whole``: every file is what the manifest promises."""

    running: Running
    whole: bool


@dataclass
class Inspection:
    """``post`` puts a verdict on the supervisor's queue; the supervisor calls `take` with it."""

    slots: Slots
    post: Callable[[SlotInspected], None]
    _waiting: list[Running] = field(default_factory=list)
    _busy: bool = False

    def ask(self, *models: Running | None) -> None:
        """Have these looked at, one after the other."""
        self._waiting += [one for one in models if one is not None and one not in self._waiting]
        self._launch()

    def take(self) -> None:
        """A verdict arrived: the next one goes."""
        self._busy = False
        self._launch()

    def _launch(self) -> None:
        if self._busy or not self._waiting:
            return
        running = self._waiting.pop(0)
        self._busy = True
        try:
            threading.Thread(target=self._look, args=(running,), name="inspection", daemon=True).start()
        except RuntimeError as exc:
            self._busy = False  # it is looked at with the next start of its worker
            log.error("an installed model cannot be looked at: %s", exc)

    def _look(self, running: Running) -> None:
        whole = True
        try:
            whole = self.slots.is_intact(running.manifest)
        except Exception:  # the guard of the thread: what could not be judged is not condemned
            log.exception("an installed model could not be looked at")
        self.post(SlotInspected(running, whole))
