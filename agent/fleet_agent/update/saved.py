"""The record and the pointers of an update, as they are, and on the disk. What the disk refuses holds all
the same, and is written later: `is_due`, `write_again`."""

import logging
from dataclasses import dataclass, field

from fleet_agent.link.backoff import Backoff
from fleet_agent.ports import Clock
from fleet_agent.slots import Pointers, Slots
from fleet_agent.update.failures import disk_failure
from fleet_agent.update.record import RecordFile, UpdateRecord
from fleet_shared.messages.reported import Failure

log = logging.getLogger(__name__)


@dataclass
class Saved:
    file: RecordFile
    slots: Slots
    clock: Clock
    retry: Backoff
    record: UpdateRecord | None = None
    pointers: Pointers = field(default_factory=Pointers)
    _unsaved: Failure | None = None
    _unpointed: Failure | None = None
    _again_at_s: float | None = None

    @property
    def trouble(self) -> Failure | None:
        """What the disk says against the record, or against the pointers, if it does."""
        return self._unsaved or self._unpointed

    def save(self, record: UpdateRecord) -> Failure | None:
        """Take up a record and save it; return what the disk says against it."""
        self.record = record
        try:
            self.file.save(record)
        except OSError as exc:
            log.error("the update record cannot be written: %s", exc)
            self._unsaved = disk_failure("the update record cannot be written", exc)
            self.try_again_soon()
            return self._unsaved
        self._unsaved = None
        return None

    def point_to(self, pointers: Pointers) -> None:
        """Take up pointers once they are written. Raises `OSError`."""
        self.slots.save_pointers(pointers)
        self.pointers, self._unpointed = pointers, None

    def point_away(self, pointers: Pointers) -> None:
        """Take up pointers that hold already: a model is gone, and nobody may point to it."""
        self.pointers = pointers
        try:
            self.point_to(pointers)
        except OSError as exc:
            self._unpointed = disk_failure("the pointers cannot be written", exc)
            self.try_again_soon()

    def try_again_soon(self) -> None:
        if self._again_at_s is None:
            self._again_at_s = self.clock.boot_s() + self.retry.next_delay_s()

    def is_due(self, now_s: float) -> bool:
        """Whether what was refused is to be tried again now."""
        if self._again_at_s is None or now_s < self._again_at_s:
            return False
        self._again_at_s = None
        return True

    def write_again(self) -> None:
        if self._unsaved is not None and self.record is not None:
            self.save(self.record)
        if self._unpointed is not None:
            self.point_away(self.pointers)
        if self._again_at_s is None:
            self.retry.reset()
