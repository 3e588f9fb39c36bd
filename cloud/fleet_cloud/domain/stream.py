"""The contiguous mark: what of a telemetry stream is committed, and what a batch adds to it.

Everything up to the mark is in the store, in the dead letters, under a tombstone, or counted as
lost. A batch that starts beyond the mark is dropped: the device sends it again after the rows
that are missing. Only when the device says that it no longer holds them (``oldest``) are they
counted as lost, and the mark moves on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fleet_shared.errors import MessageError
from fleet_shared.messages.telemetry import (
    AnyRow,
    Event,
    Rejection,
    Sample,
    TelemetryBatch,
    Tombstone,
    decode_row,
)

Tile = tuple[int, int, AnyRow | None, bytes]
"""First and last number, the row if it parses, its bytes."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """Counts are rows. ``head`` is the highest number that the device has spoken of; ``outbox`` the
    file on the device that holds the stream."""

    start: int
    mark: int
    head: int
    outbox: str = ""
    samples: int = 0
    events: int = 0
    lost: int = 0
    duplicates: int = 0
    thinned: int = 0
    rejected: int = 0

    @property
    def pending(self) -> int:
        """Rows that the device holds and the cloud does not."""
        return max(0, self.head - self.mark)


@dataclass(frozen=True, slots=True)
class Reject:
    """A row for the dead letters."""

    seq: int
    code: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Admission:
    """The new state, the rows to store with it in one transaction, and what to acknowledge."""

    state: StreamState
    rows: tuple[Sample | Event, ...] = ()
    rejects: tuple[Reject, ...] = ()

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        return tuple(Rejection(seq=reject.seq, code=reject.code) for reject in self.rejects)


def admit(state: StreamState | None, batch: TelemetryBatch) -> Admission:
    """Decide what ``batch`` adds to a stream (``state`` is none for a stream not seen yet).

    When the rows that parse do not lie in order within ``first`` to ``last`` of the batch, the device
    is wrong about its own numbers: the batch goes to the dead letters (``telemetry.batch.tiling``).
    A batch is never left unanswered: it would be sent again for ever, and hold up all after it.
    """
    known = _advance(state, batch)
    if batch.first > known.mark + 1:
        return Admission(known)
    try:
        tiles = _tile(batch)
    except MessageError as exc:
        return refuse(state, batch, exc.code)
    return _admit_rows(known, batch, tiles)


def refuse(state: StreamState | None, batch: TelemetryBatch, code: str) -> Admission:
    """Put what ``batch`` would add into the dead letters, and count its rows as rejected."""
    known = _advance(state, batch)
    if batch.first > known.mark + 1:
        return Admission(known)
    fresh = max(0, batch.last - known.mark)
    numbered = zip(range(batch.first, batch.last + 1), batch.rows, strict=False)
    rejects = tuple(Reject(seq, code, bytes(raw)) for seq, raw in numbered if seq > known.mark)
    refused = replace(
        known,
        mark=max(known.mark, batch.last),
        rejected=known.rejected + fresh,
        duplicates=known.duplicates + batch.last - batch.first + 1 - fresh,
    )
    return Admission(refused, rejects=rejects)


def close(state: StreamState) -> StreamState:
    """Count what the device held and never sent as lost: the outbox that held it is gone."""
    return replace(state, mark=max(state.mark, state.head), lost=state.lost + state.pending)


def _advance(state: StreamState | None, batch: TelemetryBatch) -> StreamState:
    """Return the stream as the batch's head and oldest row tell it."""
    known = state or StreamState(start=batch.start, mark=batch.start - 1, head=batch.head)
    outbox = batch.outbox or known.outbox
    return _count_lost(replace(known, head=max(known.head, batch.head), outbox=outbox), batch.oldest)


def _count_lost(state: StreamState, oldest: int) -> StreamState:
    gone = oldest - 1 - state.mark
    return state if gone <= 0 else replace(state, mark=oldest - 1, lost=state.lost + gone)


def _admit_rows(state: StreamState, batch: TelemetryBatch, tiles: Sequence[Tile]) -> Admission:
    rows: list[Sample | Event] = []
    rejects: list[Reject] = []
    duplicates = thinned = 0
    for first, last, row, raw in tiles:
        fresh = last - max(first, state.mark + 1) + 1
        duplicates += (last - first + 1) - max(0, fresh)
        if fresh <= 0:
            continue
        if row is None:
            rejects += [
                Reject(seq, "telemetry.row.invalid", raw) for seq in range(last - fresh + 1, last + 1)
            ]
        elif isinstance(row, Tombstone):
            thinned += fresh
        else:
            rows.append(row)
    return Admission(
        replace(
            state,
            mark=max(state.mark, batch.last),
            samples=state.samples + sum(isinstance(row, Sample) for row in rows),
            events=state.events + sum(isinstance(row, Event) for row in rows),
            duplicates=state.duplicates + duplicates,
            thinned=state.thinned + thinned,
            rejected=state.rejected + len(rejects),
        ),
        tuple(rows),
        tuple(rejects),
    )


def _tile(batch: TelemetryBatch) -> list[Tile]:
    """Return (first, last, row, raw) for each row, without holes from first to last of the batch.

    A row that does not parse has no number of its own: it stands for the one after its
    predecessor.
    """
    tiles: list[Tile] = []
    expected = batch.first
    for raw in batch.rows:
        row = _parse(bytes(raw))
        first, last = (expected, expected) if row is None else (row.seq, row.last_seq)
        if first != expected or last < first or last > batch.last:
            raise MessageError(
                f"rows of stream {batch.stream} do not follow each other: expected {expected}, got {first}",
                code="telemetry.batch.tiling",
            )
        tiles.append((first, last, row, bytes(raw)))
        expected = last + 1
    if expected != batch.last + 1:
        raise MessageError(
            f"rows of stream {batch.stream} end at {expected - 1}, the batch says {batch.last}",
            code="telemetry.batch.tiling",
        )
    return tiles


def _parse(raw: bytes) -> AnyRow | None:
    try:
        return decode_row(raw)
    except MessageError:
        return None
