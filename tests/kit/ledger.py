"""A naive controller: beside the real mark it keeps every number in a set, and compares after each batch."""

from dataclasses import dataclass, field

from fleet_cloud.domain.stream import StreamState, admit, refuse
from fleet_shared.errors import MessageError
from fleet_shared.messages.telemetry import Ack, AnyRow, Event, Sample, TelemetryBatch, Tombstone, decode_row


@dataclass
class Ledger:
    """Where each number of one stream is. A number is in one of the four places, or not here yet."""

    start: int
    head: int = 0
    stored: dict[int, Sample | Event] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    thinned: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    duplicates: int = 0

    @property
    def known(self) -> set[int]:
        return self.stored.keys() | self.dead | self.thinned | self.lost

    def take(self, batch: TelemetryBatch, *, poison: bool) -> None:
        """Write down what ``batch`` brings; with ``poison`` everything new is a dead letter."""
        self.head = max(self.head, batch.head)
        self.lost |= set(range(self.start, batch.oldest)) - self.known
        if set(range(self.start, batch.first)) - self.known:
            return  # rows before it are on their way
        for number, row in _unroll(batch):
            if number in self.known:
                self.duplicates += 1
            elif poison or row is None:
                self.dead.add(number)
            elif isinstance(row, Tombstone):
                self.thinned.add(number)
            else:
                self.stored[number] = row

    def as_state(self, outbox: str) -> StreamState:
        """Return what the real arithmetic must have come to."""
        return StreamState(
            start=self.start,
            mark=max(self.known, default=self.start - 1),
            head=self.head,
            outbox=outbox,
            samples=sum(isinstance(row, Sample) for row in self.stored.values()),
            events=sum(isinstance(row, Event) for row in self.stored.values()),
            lost=len(self.lost),
            duplicates=self.duplicates,
            thinned=len(self.thinned),
            rejected=len(self.dead),
        )


@dataclass
class Cloud:
    """What a database would hold: committed together, restored together (`copy.deepcopy`)."""

    streams: dict[str, StreamState] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(default_factory=dict)

    def receive(self, batch: TelemetryBatch, *, poison: bool = False) -> Ack:
        state = self.streams.get(batch.stream)
        admission = refuse(state, batch, "poison") if poison else admit(state, batch)
        ledger = self.ledgers.setdefault(batch.stream, Ledger(batch.start))
        before = set(ledger.stored)
        ledger.take(batch, poison=poison)
        new = [row for number, row in ledger.stored.items() if number not in before]
        assert list(admission.rows) == new, "other rows would be stored than are new"
        assert admission.state == ledger.as_state(batch.outbox)
        assert ledger.known == set(range(ledger.start, admission.state.mark + 1)), "there is a hole"
        self.streams[batch.stream] = admission.state
        return Ack(stream=batch.stream, upto=admission.state.mark, rejected=admission.rejections)

    def numbers(self, place: str) -> set[int]:
        """Return the numbers of all streams in one place (``stored``, ``dead``, ``thinned``, ``lost``)."""
        return {number for ledger in self.ledgers.values() for number in getattr(ledger, place)}

    @property
    def known(self) -> set[int]:
        return {number for ledger in self.ledgers.values() for number in ledger.known}

    @property
    def rows(self) -> dict[int, Sample | Event]:
        return {seq: row for ledger in self.ledgers.values() for seq, row in ledger.stored.items()}


def _unroll(batch: TelemetryBatch) -> list[tuple[int, AnyRow | None]]:
    """Return each number of the batch with its row; a row that does not parse has the next number."""
    found: list[tuple[int, AnyRow | None]] = []
    for raw in batch.rows:
        following = found[-1][0] + 1 if found else batch.first
        try:
            row = decode_row(raw)
        except MessageError:
            found.append((following, None))
        else:
            found += [(number, row) for number in range(row.seq, row.last_seq + 1)]
    return found
