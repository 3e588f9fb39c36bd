"""The outbox at its limits: sizes, order, what an ack covers, what the disk is asked for."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fleet_agent.errors import OutboxError
from fleet_agent.link import outbox as module
from fleet_agent.link.outbox import THINNED, Kind, Outbox, OutboxLimits
from fleet_shared.limits import ROWS_PER_BATCH, TELEMETRY_BYTES
from fleet_shared.messages.telemetry import Ack, Event, Sample, Source, TelemetryBatch, Tombstone, decode_row
from fleet_shared.wire import encode


def sample(number: float = 1, room: int = 0) -> Sample:
    values = {"n": float(number)}
    return Sample(
        seq=0, boot_id="b", boot_ms=int(number), source=Source.HOST, values=values, model="x" * room or None
    )


def event(name: str) -> Event:
    return Event(seq=0, boot_id="b", boot_ms=1, name=name)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "o.db", "s")
    yield outbox
    outbox.close()


def fill(outbox: Outbox) -> None:
    for n in range(1000):
        outbox.append(sample(n, 2000))


def load(outbox: Outbox, stream: str = "s", after: int = 0) -> TelemetryBatch:
    batch = outbox.load_batch(stream, after)
    assert batch is not None
    return batch


def numbers(batch: TelemetryBatch) -> list[tuple[int, int]]:
    return [(row.seq, row.last_seq) for row in map(decode_row, batch.rows)]


def test_the_defaults() -> None:
    assert OutboxLimits() == OutboxLimits(rows=200_000, bytes=64 * 1024 * 1024, thin_rows=1000)
    assert (Kind.SAMPLE, Kind.EVENT) == THINNED
    assert module._ONCE_KEPT == 1000


def test_a_row_is_on_disk_when_append_returns(box: Outbox, tmp_path: Path) -> None:
    """SQLite's own words for it: a write-ahead log that is synced at every commit."""
    assert box._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert box._db.execute("PRAGMA synchronous").fetchone() == (2,), "2 is FULL"
    box.append(sample())
    with sqlite3.connect(tmp_path / "o.db") as other:
        assert other.execute("SELECT count(*) FROM row").fetchone() == (1,)
    other.close()


def test_a_batch_has_its_numbers_in_order(box: Outbox) -> None:
    box.append(sample(1), event("e"), sample(2))
    batch = load(box)
    assert (batch.stream, batch.start, batch.oldest, batch.head) == ("s", 1, 1, 3)
    assert (batch.first, batch.last) == (1, 3)
    assert numbers(batch) == [(1, 1), (2, 2), (3, 3)]
    later = load(box, after=1)
    assert (later.first, later.last, later.oldest, later.head) == (2, 3, 1, 3)
    assert numbers(later) == [(2, 2), (3, 3)]
    assert box.load_batch("s", 3) is None
    assert box.load_batch("another") is None


def test_a_batch_has_at_most_200_rows(box: Outbox) -> None:
    box.append(*(sample(n) for n in range(ROWS_PER_BATCH + 1)))
    batch = load(box)
    assert (len(batch.rows), batch.last, batch.head) == (200, 200, 201)
    assert numbers(load(box, after=200)) == [(201, 201)]


@pytest.mark.parametrize("room", [900, 3000, 7900])
def test_a_batch_is_as_long_as_a_message_may_be_and_no_longer(box: Outbox, room: int) -> None:
    box.append(*(sample(n, room) for n in range(150)))
    batch = load(box)
    size = len(encode(batch))
    assert size <= TELEMETRY_BYTES
    assert batch.last == batch.first + len(batch.rows) - 1
    longest = max(len(bytes(raw)) for raw in batch.rows)
    assert batch.last == 150 or size + longest > TELEMETRY_BYTES - 1024, "room for another row was left"


def test_numbers_never_go_back_while_the_file_lives(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "o.db", "s")
    first.append(sample(), sample())
    first.apply_ack(Ack(stream="s", upto=2))
    first.close()
    second = Outbox(tmp_path / "o.db", "t")
    assert second.streams() == []
    second.append(sample())
    batch = load(second, "t")
    assert (batch.start, batch.first, batch.outbox) == (3, 3, "s")
    second.close()


def test_streams_go_out_oldest_first_each_with_its_own_start(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    for number, name in enumerate(("z", "m", "a")):
        outbox = Outbox(path, name)
        outbox.append(*(sample(n) for n in range(number + 1)))
        outbox.close()
    last = Outbox(path, "q")
    assert last.pending == 6
    assert last.streams() == ["z", "m", "a"]
    assert [(load(last, name).start, load(last, name).head) for name in "zma"] == [(1, 1), (2, 3), (4, 6)]
    assert last.apply_ack(Ack(stream="m", upto=3)) == 2
    assert last.streams() == ["z", "a"]
    assert last._db.execute("SELECT name FROM stream ORDER BY name").fetchall() == [("a",), ("z",)]
    last.close()


def test_an_ack_covers_its_own_stream_up_to_its_number(box: Outbox) -> None:
    box.append(*(sample(n) for n in range(5)))
    assert box.apply_ack(Ack(stream="other", upto=99)) == 0
    assert box.apply_ack(Ack(stream="s", upto=0)) == 0
    assert box.apply_ack(Ack(stream="s", upto=2)) == 2
    assert box.apply_ack(Ack(stream="s", upto=2)) == 0
    assert box.pending == 3
    batch = load(box)
    assert (batch.start, batch.oldest, batch.first, batch.head) == (1, 3, 3, 5)


def test_a_stream_in_use_stays_known_when_everything_is_acknowledged(box: Outbox) -> None:
    box.append(sample())
    box.apply_ack(Ack(stream="s", upto=1))
    box.append(sample())
    batch = load(box)
    assert (batch.start, batch.first) == (1, 2)


def test_an_ack_of_a_part_of_a_tombstone_leaves_it_whole(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", "s", OutboxLimits(rows=5, thin_rows=4))
    outbox.append(*(sample(n) for n in range(6)))
    assert numbers(load(outbox)) == [(1, 4), (5, 5), (6, 6)]
    assert outbox.pending == 3
    assert outbox.apply_ack(Ack(stream="s", upto=3)) == 0
    assert numbers(load(outbox))[0] == (1, 4)
    assert outbox.apply_ack(Ack(stream="s", upto=4)) == 1
    assert (load(outbox).oldest, outbox.pending) == (5, 2)
    outbox.close()


def test_exactly_the_limit_of_rows_is_kept(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", "s", OutboxLimits(rows=5, thin_rows=2))
    outbox.append(*(sample(n) for n in range(5)))
    assert numbers(load(outbox)) == [(n, n) for n in range(1, 6)]
    outbox.append(sample())
    assert numbers(load(outbox)) == [(1, 2), *((n, n) for n in range(3, 7))]
    outbox.close()


def test_the_limit_of_bytes_counts_also_after_a_restart_and_an_ack(tmp_path: Path) -> None:
    limits = OutboxLimits(rows=1000, bytes=10_000, thin_rows=3)
    outbox = Outbox(tmp_path / "o.db", "s", limits)
    outbox.append(*(sample(n, 900) for n in range(8)))
    outbox.close()
    outbox = Outbox(tmp_path / "o.db", "s", limits)
    assert len(load(outbox).rows) == 8
    outbox.apply_ack(Ack(stream="s", upto=4))
    outbox.append(*(sample(n, 900) for n in range(4)))
    assert len(load(outbox).rows) == 8, "what was acknowledged takes no room"
    outbox.append(*(sample(n, 900) for n in range(3)))
    assert numbers(load(outbox))[0] == (5, 7), "the oldest three gave way"
    outbox.close()


def test_a_tombstone_names_the_newest_of_its_rows_and_never_crosses_streams(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "o.db", "s")
    first.append(sample(11), sample(12))
    first.close()
    outbox = Outbox(tmp_path / "o.db", "t", OutboxLimits(rows=3, thin_rows=10))
    outbox.append(sample(13), sample(14))
    (old,) = map(decode_row, load(outbox, "s").rows)
    (new,) = map(decode_row, load(outbox, "t").rows)
    assert old == Tombstone(seq=1, last=2, boot_id="b", boot_ms=12)
    assert new == Tombstone(seq=3, last=4, boot_id="b", boot_ms=14)
    outbox.close()


def test_tombstones_beside_each_other_become_one(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", "s", OutboxLimits(rows=4, thin_rows=2))
    for n in range(20):
        outbox.append(sample(n))
    assert numbers(load(outbox))[0][0] == 1
    assert len(numbers(load(outbox))) == outbox.pending <= 4
    assert sum(isinstance(row, Tombstone) for row in map(decode_row, load(outbox).rows)) == 1
    outbox.close()


def test_an_outcome_between_two_gaps_stays(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", "s", OutboxLimits(rows=5, thin_rows=10))
    outbox.append(event("a"), event("b"))
    outbox.append_once("outcome:1", event("update.succeeded"))
    outbox.append(*(sample(n) for n in range(3)))
    assert numbers(load(outbox)) == [(1, 1), (2, 2), (3, 3), (4, 6)]
    outbox.append(event("c"), event("d"))
    assert numbers(load(outbox)) == [(1, 2), (3, 3), (4, 8)]
    assert outbox.pending == 3
    kept = decode_row(load(outbox).rows[1])
    assert isinstance(kept, Event)
    assert kept.name == "update.succeeded"
    outbox.close()


def test_a_key_is_remembered_for_the_newest_ones(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ONCE_KEPT", 3)
    for number in range(4):
        assert box.append_once(f"outcome:{number}", event("update.succeeded"))
    for number in (1, 2, 3):
        assert not box.append_once(f"outcome:{number}", event("update.succeeded"))
    assert box.append_once("outcome:0", event("update.succeeded")), "the oldest key gave way"
    assert box.pending == 5


def test_a_row_that_cannot_be_stored_claims_no_key(box: Outbox) -> None:
    bad = msgspec.structs.replace(event("update.failed"), detail={"path": "\udcff"})
    with pytest.raises(OutboxError):
        box.append_once("outcome:1", bad)
    assert box.append_once("outcome:1", event("update.failed"))


def test_a_full_disk_is_named_and_undoes_the_row(box: Outbox) -> None:
    box.append(sample())
    (pages,) = box._db.execute("PRAGMA page_count").fetchone()
    box._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutboxError) as caught:
        fill(box)
    assert caught.value.code == "outbox.full"
    before = box.pending
    box._db.execute(f"PRAGMA max_page_count = {pages * 100}")
    box.append(sample())
    assert box.pending == before + 1
    assert [seq for seq, _ in numbers(load(box))] == list(range(1, before + 2)), "a number was used up"
