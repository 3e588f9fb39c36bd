"""What happened on the device, written down in the outbox: events, samples, outcomes."""

import logging
from dataclasses import dataclass
from pathlib import Path

from fleet_agent.errors import AgentError
from fleet_agent.link.outbox import Outbox
from fleet_agent.ports import Clock
from fleet_agent.rows import Detail, event_row, host_row, model_row, outcome_row
from fleet_agent.update.record import UpdateRecord
from fleet_agent.worker.protocol import Stats
from fleet_shared.messages.reported import Failure, Running
from fleet_shared.messages.telemetry import CLOCK_KNOWN, AnyRow, Sample
from fleet_shared.names import AssignmentId

log = logging.getLogger(__name__)


@dataclass
class Journal:
    """A full disk costs a sample or an event, which is said, never the agent; an outcome is the only
    row whose loss is an error."""

    outbox: Outbox
    clock: Clock
    _undated: bool = False

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
        try:
            self.outbox.append(row)
        except AgentError as exc:
            kind = "sample" if isinstance(row, Sample) else "event"
            log.error("a telemetry %s is lost: %s (%s)", kind, exc.message, exc.code)


def _outcome_key(assignment: AssignmentId) -> str:
    return f"outcome:{assignment}"
