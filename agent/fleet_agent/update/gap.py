"""The time without inference at a swap where memory holds one worker only: the old one ends first."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from fleet_agent.ports import Clock
from fleet_agent.update.record import UpdateRecord
from fleet_agent.workers import Workers
from fleet_shared.messages.desired import WhenTight

log = logging.getLogger(__name__)


@dataclass
class Gap:
    """``is_tight``: whether memory holds no second worker for a model now. ``awaits_room``: the old worker
    was told to leave, and has not yet."""

    workers: Workers
    clock: Clock
    is_tight: Callable[[UpdateRecord], bool] = lambda _record: False
    awaits_room: bool = False
    _since_s: float | None = None

    def has_room(self, record: UpdateRecord) -> bool:
        """Whether a worker for the model of ``record`` may be started now; the old one is told to leave
        first where that must be."""
        if not self.awaits_room and record.before is not None and self._is_needed(record):
            log.warning("memory holds no second worker: the old one ends first")
            self.awaits_room = True
            if self._since_s is None:  # else nothing answers since an earlier one
                self._since_s = self.clock.boot_s()
            self.workers.make_room()
        if self.awaits_room and not self.workers.has_room:
            return False
        self.awaits_room = False
        return True

    @property
    def is_open(self) -> bool:
        """Whether nothing has served since the old worker was told to leave."""
        return self._since_s is not None

    @property
    def is_ready(self) -> bool:
        """Whether the old worker has left that was waited for."""
        return self.awaits_room and self.workers.has_room

    def end_ms(self) -> int | None:
        """A worker serves: return for how long nothing answered, none where there was no gap."""
        since_s, self._since_s = self._since_s, None
        return None if since_s is None else int((self.clock.boot_s() - since_s) * 1000)

    def leave(self) -> bool:
        """The update has ended; tell whether nothing serves, so that somebody must be started."""
        self.awaits_room = False
        return self.is_open

    def _is_needed(self, record: UpdateRecord) -> bool:
        return record.policy.when_tight is WhenTight.GAP and self.is_tight(record)
