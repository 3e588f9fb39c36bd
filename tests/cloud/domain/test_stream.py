"""The contiguous mark, batch by batch: what each adds, and what it must not change."""

from dataclasses import replace

import msgspec
import pytest

from fleet_cloud.domain.stream import Reject, StreamState, admit, close, refuse
from fleet_shared.messages.telemetry import (
    AnyRow,
    Event,
    Rejection,
    Sample,
    Source,
    TelemetryBatch,
    Tombstone,
    encode_row,
)

BAD = msgspec.Raw(b'{"kind":"sample","seq":"x"}')


def sample(seq: int) -> Sample:
    return Sample(seq=seq, boot_id="b", boot_ms=1, source=Source.HOST, values={"n": float(seq)})


def event(seq: int) -> Event:
    return Event(seq=seq, boot_id="b", boot_ms=1, name="e")


def gap(first: int, last: int) -> Tombstone:
    return Tombstone(seq=first, last=last, boot_id="b", boot_ms=1)


def make(
    first: int,
    last: int,
    *rows: AnyRow | msgspec.Raw,
    start: int = 1,
    oldest: int | None = None,
    head: int = 0,
    outbox: str = "",
) -> TelemetryBatch:
    """Return a batch; samples from first to last unless rows are given."""
    given = rows or tuple(sample(seq) for seq in range(first, last + 1))
    raw = tuple(row if isinstance(row, msgspec.Raw) else msgspec.Raw(encode_row(row)) for row in given)
    return TelemetryBatch(
        stream="s", start=start, oldest=first if oldest is None else oldest, head=max(head, last),
        first=first, last=last, rows=raw, outbox=outbox,
    )  # fmt: skip


TEN = StreamState(start=1, mark=10, head=12, samples=10)


def test_the_first_batch_of_a_stream_starts_where_the_stream_starts() -> None:
    found = admit(None, make(5, 7, start=5, head=9))
    assert found.state == StreamState(start=5, mark=7, head=9, samples=3)
    assert [row.seq for row in found.rows] == [5, 6, 7]
    assert found.state.pending == 2


def test_a_first_batch_that_does_not_begin_at_the_start_says_what_is_gone() -> None:
    assert admit(None, make(5, 6, start=2)).state == StreamState(start=2, mark=6, head=6, samples=2, lost=3)


def test_the_next_batch_follows_and_samples_and_events_are_counted_apart() -> None:
    found = admit(TEN, make(11, 14, sample(11), event(12), gap(13, 14)))
    assert found.state == StreamState(start=1, mark=14, head=14, samples=11, events=1, thinned=2)
    assert [row.seq for row in found.rows] == [11, 12]


def test_a_batch_beyond_the_mark_adds_nothing_but_the_head() -> None:
    found = admit(TEN, make(12, 20, oldest=11, head=30))
    assert found.state == replace(TEN, head=30)
    assert (found.rows, found.rejects) == ((), ())


def test_an_old_batch_after_a_newer_one_moves_nothing_back() -> None:
    found = admit(TEN, make(3, 5))
    assert found.state == replace(TEN, duplicates=3)
    assert found.rows == ()
    assert admit(found.state, make(11, 11)).state.mark == 11


def test_an_old_batch_that_reaches_beyond_the_mark_adds_only_what_is_new() -> None:
    found = admit(TEN, make(9, 12))
    assert found.state == StreamState(start=1, mark=12, head=12, samples=12, duplicates=2)
    assert [row.seq for row in found.rows] == [11, 12]


def test_the_head_never_goes_back() -> None:
    assert admit(TEN, make(11, 11)).state.head == 12
    assert admit(TEN, make(3, 5)).state.pending == 2


def test_what_the_device_no_longer_holds_is_lost_to_the_row() -> None:
    assert admit(TEN, make(11, 12, oldest=11)).state.lost == 0
    assert admit(TEN, make(13, 13, oldest=12)).state == replace(TEN, mark=11, lost=1, head=13)
    assert admit(replace(TEN, lost=5), make(14, 14)).state == StreamState(
        start=1, mark=14, head=14, samples=11, lost=5 + 3
    )


def test_a_bad_row_stands_for_one_number_and_spoils_no_other() -> None:
    found = admit(replace(TEN, rejected=4), make(11, 13, sample(11), BAD, event(13)))
    assert found.state == StreamState(start=1, mark=13, head=13, samples=11, events=1, rejected=5)
    assert found.rejects == (Reject(12, "telemetry.row.invalid", bytes(BAD)),)
    assert found.rejections == (Rejection(seq=12, code="telemetry.row.invalid"),)


def test_a_bad_row_that_is_old_is_a_duplicate() -> None:
    found = admit(TEN, make(9, 11, BAD, BAD, BAD))
    assert found.state == replace(TEN, mark=11, duplicates=2, rejected=1)
    assert [reject.seq for reject in found.rejects] == [11]


@pytest.mark.parametrize(
    "rows",
    [
        (sample(12), sample(13)),
        (sample(11), sample(11)),
        (sample(11), sample(13)),
        (sample(12), sample(11)),
        (gap(11, 12), sample(13)),
        (gap(12, 11), sample(12)),
        (sample(11),),
        (sample(11), sample(12), sample(13)),
        (gap(10, 12),),
        (sample(11), gap(12, 13)),
    ],
    ids=["late", "twice", "hole", "swapped", "long", "backwards", "short", "too-many", "early", "beyond"],
)
def test_numbers_that_do_not_tile_the_batch_refuse_it_whole(rows: tuple[AnyRow, ...]) -> None:
    found = admit(TEN, make(11, 12, *rows))
    assert found.state == replace(TEN, mark=12, rejected=2)
    assert found.rows == ()
    assert {reject.code for reject in found.rejects} == {"telemetry.batch.tiling"}
    assert [reject.seq for reject in found.rejects] == [11, 12][: len(rows)]


def test_refusing_counts_only_what_is_new_and_moves_nothing_back() -> None:
    found = refuse(TEN, make(9, 12), "code")
    assert found.state == replace(TEN, mark=12, rejected=2, duplicates=2)
    assert [reject.seq for reject in found.rejects] == [11, 12]
    assert [reject.raw for reject in found.rejects] == [bytes(raw) for raw in make(9, 12).rows[2:]]
    assert [(reject.seq, reject.code) for reject in found.rejects] == [(11, "code"), (12, "code")]
    older = replace(found, state=replace(TEN, duplicates=3), rejects=())
    assert refuse(TEN, make(3, 5), "code") == older
    beyond = refuse(TEN, make(12, 13, oldest=11), "code")
    assert (beyond.state, beyond.rejects) == (replace(TEN, head=13), ())


def test_the_outbox_of_a_stream_is_remembered() -> None:
    named = admit(TEN, make(11, 11, outbox="file")).state
    assert named.outbox == "file"
    assert admit(named, make(12, 12)).state.outbox == "file"


def test_closing_a_stream_counts_what_was_not_sent_once() -> None:
    closed = close(replace(TEN, lost=1))
    assert closed == replace(TEN, mark=12, lost=3)
    assert close(closed) == closed
    assert close(replace(TEN, head=10)) == replace(TEN, head=10)
    assert close(replace(TEN, head=9)) == replace(TEN, head=9)
