"""What happened on the device, written down in the outbox: events, samples, outcomes."""

import logging
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fleet_agent.errors import AgentError
from fleet_agent.link.outbox import Outbox
from fleet_agent.ports import Clock
from fleet_agent.rows import event_row, host_row, model_row, outcome_row
from fleet_agent.update.record import UpdateRecord
from fleet_agent.worker.protocol import Stats
from fleet_shared.messages.reported import Failure, Running
from fleet_shared.messages.telemetry import CLOCK_KNOWN, AnyRow, Detail, Sample
from fleet_shared.names import AssignmentId

log = logging.getLogger(__name__)

HELD_MAX: Final = 500
"""So many rows are held in memory while the disk takes none."""
THIN_EVERY_S: Final = 3600.0


@dataclass
class Journal:
    """While the disk takes nothing, rows wait in memory; what is too much for that is counted and said,
    samples before events. It never costs the agent. An outcome is the only row whose loss is an error.

    ``trouble``: why nothing can be stored at the moment, if so.
    """

    outbox: Outbox
    clock: Clock
    trouble: Failure | None = None
    _held: deque[AnyRow] = field(default_factory=deque)
    _lost: int = 0
    _thin_at_s: float = 0.0
    _undated: bool = False

    def tick(self, now_s: float) -> None:
        """Say that the outbox was found damaged, if it was; thin out what is too old."""
        if (kept_as := self.outbox.damaged) is not None:
            self.outbox.damaged = None
            self.damaged("outbox.reset", kept_as)
        if now_s >= self._thin_at_s:
            self._thin_at_s = now_s + THIN_EVERY_S
            try:
                self.outbox.thin_old(self.clock.now())
            except AgentError as exc:
                log.error("the outbox could not be thinned out: %s", exc.message)

    def event(
        self,
        name: str,
        *,
        failure: Failure | None = None,
        assignment: AssignmentId | None = None,
        detail: Detail | None = None,
    ) -> None:
        self._store(event_row(self.clock.now(), name, failure=failure, assignment=assignment, detail=detail))

    def damaged(self, name: str, kept_as: Path | None) -> None:
        """A file did not parse and was set aside."""
        self.event(name, detail={"kept_as": None if kept_as is None else str(kept_as)})

    def host(self, values: dict[str, float]) -> None:
        self._store(host_row(self.clock.now(), values))

    def model(self, running: Running, stats: Stats) -> None:
        self._store(model_row(self.clock.now(), running, stats))

    def store_outcome(self, record: UpdateRecord) -> None:
        """Store the outcome of an assignment, once. Raises `OutboxError`."""
        row = outcome_row(self.clock.now(), record)
        self._tell_time(row)
        self.outbox.append_once(_outcome_key(record.entry.assignment), row)

    def has_outcome(self, assignment: AssignmentId) -> bool:
        """Whether the outcome was stored, now or by an earlier start of the agent."""
        try:
            return self.outbox.has_stored(_outcome_key(assignment))
        except AgentError as exc:
            log.error("the outbox cannot be read: %s", exc.message)
            return False

    def _tell_time(self, row: AnyRow) -> None:
        """Once the time is known, say so: the cloud dates the rows of this boot that had none. The start of
        the agent says it too, for those that an earlier process of the same boot left."""
        if row.wall_ms is None:
            self._undated = True
        elif self._undated:
            self._undated = False
            self._store(event_row(self.clock.now(), CLOCK_KNOWN))

    def _store(self, row: AnyRow) -> None:
        self._tell_time(row)
        self._held.append(row)
        while len(self._held) > HELD_MAX:
            self._drop_one()
        try:
            self._flush()
        except AgentError as exc:
            if self.trouble is None:
                log.error("telemetry waits in memory: %s (%s)", exc.message, exc.code)
            self.trouble = Failure.of(exc)
        else:
            self.trouble = None

    def _flush(self) -> None:
        """Store what is held, in one transaction if it can be; a row that cannot be sent goes alone."""
        rows = list(self._held)
        try:
            self.outbox.append(*rows)
        except AgentError as exc:
            if exc.code != "outbox.row":
                raise
            self._flush_each(rows)
        self._held.clear()
        if self._lost:
            self.outbox.append(event_row(self.clock.now(), "telemetry.lost", detail={"rows": self._lost}))
            self._lost = 0

    def _flush_each(self, rows: list[AnyRow]) -> None:
        for row in rows:
            try:
                self.outbox.append(row)
            except AgentError as exc:
                if exc.code != "outbox.row":
                    raise
                log.error("a telemetry row is lost: %s", exc.message)
            self._held.popleft()

    def _drop_one(self) -> None:
        index = next((at for at, row in enumerate(self._held) if isinstance(row, Sample)), 0)
        del self._held[index]
        self._lost += 1


def _outcome_key(assignment: AssignmentId) -> str:
    return f"outcome:{assignment}"
