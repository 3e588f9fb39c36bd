"""The real outbox, sender and mark, under loss, duplicates, reordering and crashes of both sides.

Whatever happens: a row that was committed on the device is in the store exactly once, or under a
tombstone, or in the dead letters, or still on the device; or the controller was restored from a backup
that is older than its acknowledgement, and then it is counted as lost as soon as that can be known.
"""

import copy
import shutil
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fleet_agent.errors import OutboxError
from fleet_agent.link import outbox as outbox_module
from fleet_agent.link.outbox import Outbox, OutboxLimits
from fleet_agent.link.sender import Sender
from fleet_cloud.domain.stream import StreamState, admit, close
from fleet_shared.messages.telemetry import (
    Ack,
    Event,
    Sample,
    Source,
    TelemetryBatch,
    Tombstone,
    decode_row,
    encode_row,
)
from tests.kit.ledger import Cloud

LIMITS = OutboxLimits(rows=30, thin_rows=8)
ROWS_PER_BATCH = 7
"""Small, so that a batch is seldom all that the outbox holds."""

FOREIGN = b'{"kind":"of a newer agent","boot_id":"b","boot_ms":1}'
MEMORY = Path("/dev/shm")  # noqa: S108 - a thousand small databases, which no disk needs to see


def sample(value: float) -> Sample:
    return Sample(seq=0, boot_id="b", boot_ms=1, source=Source.HOST, values={"n": value})


def event(name: str, number: int = 0) -> Event:
    return Event(seq=0, boot_id="b", boot_ms=1, name=name, detail={"n": number})


class Accounting(RuleBasedStateMachine):
    """One device with one outbox file: a row is known by its number, whatever its stream."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(outbox_module, "ROWS_PER_BATCH", ROWS_PER_BATCH)
        self.runs = self.copies = 0
        self.now_s = 0.0
        self.made: dict[int, Sample | Event] = {}
        self.outcomes: dict[str, int] = {}
        self.foreign: set[int] = set()
        self.forgotten: set[int] = set()
        self.restored = self.poisoned = False
        self.cloud = Cloud()
        self.backup = copy.deepcopy(self.cloud)
        self.to_cloud: list[TelemetryBatch] = []
        self.to_device: list[Ack] = []
        self.open()

    def open(self) -> None:
        self.runs += 1
        self.outbox = Outbox(self.folder / "outbox.db", f"stream-{self.runs}", LIMITS)
        self.sender = Sender(self.outbox, jitter=lambda: 1.0)
        assert self.outbox.damaged is None

    @property
    def newest(self) -> int:
        """The highest number that was ever given out: SQLite's own memory of it."""
        found = self.outbox._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'row'").fetchone()
        return int(found[0]) if found else 0

    def on_device(self) -> set[int]:
        ranges = self.outbox._db.execute("SELECT seq, last FROM row").fetchall()
        return {number for first, last in ranges for number in range(first, last + 1)}

    # -- the device

    @rule(count=st.integers(1, 12), events=st.booleans())
    def measure(self, count: int, events: bool) -> None:
        first = self.newest + 1
        numbers = range(first, first + count)
        rows = [event("noted", n) if events else sample(float(n)) for n in numbers]
        self.made |= {n: msgspec.structs.replace(row, seq=n) for n, row in zip(numbers, rows, strict=True)}
        self.outbox.append(*rows)
        assert self.newest == first + count - 1

    @rule(key=st.sampled_from(["outcome:1", "outcome:2", "outcome:3"]))
    def an_update_ends(self, key: str) -> None:
        number = self.newest + 1
        row = event("update.succeeded", number)
        assert self.outbox.append_once(key, row) is (key not in self.outcomes)
        if key not in self.outcomes:
            self.outcomes[key] = number
            self.made[number] = msgspec.structs.replace(row, seq=number)

    @rule(data=st.data())
    def a_row_is_of_a_newer_agent(self, data: st.DataObject) -> None:
        plain = "SELECT seq FROM row WHERE kind IN ('sample', 'event') ORDER BY seq"
        numbers = [number for (number,) in self.outbox._db.execute(plain)]
        if numbers:
            number = data.draw(st.sampled_from(numbers))
            self.outbox._db.execute("UPDATE row SET payload = ? WHERE seq = ?", (FOREIGN, number))
            self.foreign.add(number)

    @rule()
    def the_device_restarts(self) -> None:
        self.outbox.close()
        self.open()

    @rule()
    def the_power_is_cut(self) -> None:
        """What the disk holds at this moment is all that is left: the database and its log."""
        before = self.on_device()
        self.copies += 1
        other = self.folder / f"copy-{self.copies}"
        other.mkdir()
        for name in ("outbox.db", "outbox.db-wal"):
            shutil.copy(self.folder / name, other / name)
        self.outbox.close()
        for file in self.folder.glob("outbox.db*"):
            file.unlink()
        for file in other.iterdir():
            file.rename(self.folder / file.name)
        self.open()
        assert self.on_device() == before

    # -- the way between

    @rule(seconds=st.sampled_from([0.0, 1.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        if (batch := self.sender.load_next(self.now_s)) is not None:
            self.to_cloud.append(batch)
        assert self.sender.load_next(self.now_s) is None, "one batch at a time"

    @rule(after=st.integers(1, 12))
    def another_agent_sends_ahead(self, after: int) -> None:
        for stream in self.outbox.streams():
            first = self.outbox.load_batch(stream)
            assert first is not None
            if (batch := self.outbox.load_batch(stream, first.first + after - 1)) is not None:
                self.to_cloud.append(batch)

    @precondition(lambda self: self.to_cloud)
    @rule(
        data=st.data(),
        keep=st.booleans(),
        lose_ack=st.booleans(),
        poison=st.sampled_from([False] * 7 + [True]),
    )
    def deliver(self, data: st.DataObject, keep: bool, lose_ack: bool, poison: bool) -> None:
        index = data.draw(st.integers(0, len(self.to_cloud) - 1))
        batch = self.to_cloud[index] if keep else self.to_cloud.pop(index)
        self.poisoned = self.poisoned or poison
        ack = self.cloud.receive(batch, poison=poison)
        if not lose_ack:
            self.to_device.append(ack)

    @precondition(lambda self: self.to_device)
    @rule(data=st.data(), keep=st.booleans())
    def acknowledge(self, data: st.DataObject, keep: bool) -> None:
        index = data.draw(st.integers(0, len(self.to_device) - 1))
        before = self.outbox.pending
        removed = self.sender.apply_ack(self.to_device[index] if keep else self.to_device.pop(index))
        assert self.outbox.pending == before - removed

    @rule()
    def the_network_forgets(self) -> None:
        self.to_cloud.clear()
        self.to_device.clear()
        self.sender.reset()

    # -- the controller

    @rule()
    def the_controller_is_backed_up(self) -> None:
        self.backup = copy.deepcopy(self.cloud)

    @rule()
    def the_controller_is_restored(self) -> None:
        """Only here rows may get lost: those that it acknowledged after the backup was made. Answers of
        the controller that was are gone with its connections; old batches may still come in."""
        self.cloud = copy.deepcopy(self.backup)
        self.to_device.clear()
        self.restored = True
        self.forgotten |= set(self.made) - self.on_device() - self.cloud.known

    @rule()
    def settle(self) -> None:
        """A quiet time: everything on the device arrives, and the books balance."""
        self.the_network_forgets()
        for _ in range(100):
            self.now_s += 20.0
            batch = self.sender.load_next(self.now_s)
            if batch is None:
                break
            self.sender.apply_ack(self.cloud.receive(batch))
            assert self.cloud.streams[batch.stream].mark >= batch.last, "a batch in order was not taken"
        assert self.outbox.pending == 0
        assert set(self.made) - self.cloud.known <= self.forgotten
        if not self.restored:
            assert all(state.pending == 0 for state in self.cloud.streams.values())

    # -- what always holds

    @invariant()
    def every_row_is_somewhere(self) -> None:
        if not hasattr(self, "cloud"):
            return
        missing = set(self.made) - self.on_device() - self.cloud.known
        assert missing <= self.forgotten, "acknowledged, and not there"
        assert self.cloud.numbers("lost") <= self.forgotten, "counted as lost, and was never forgotten"
        assert self.outbox.pending == self.outbox._db.execute("SELECT count(*) FROM row").fetchone()[0]

    @invariant()
    def every_row_is_what_was_measured(self) -> None:
        if not hasattr(self, "cloud"):
            return
        assert all(self.made[number] == row for number, row in self.cloud.rows.items())
        if not self.poisoned:
            assert self.cloud.numbers("dead") <= self.foreign
        assert not self.cloud.numbers("thinned") & set(self.outcomes.values()), "an outcome was thinned out"

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.patch.undo()
            self.outbox.close()
            shutil.rmtree(self.folder)


class LongAccounting(Accounting):
    """The same for as long as a night allows."""


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestLongAccounting = pytest.mark.long(LongAccounting.TestCase)
TestLongAccounting.settings = settings(max_examples=2000, stateful_step_count=100, deadline=None)


def test_an_old_batch_after_a_newer_one_changes_nothing_but_the_duplicates(tmp_path: Path) -> None:
    outbox, cloud = Outbox(tmp_path / "o.db", "s"), Cloud()
    outbox.append(*(sample(n) for n in range(1, 4)))
    old = first_batch(outbox)
    outbox.append(*(sample(n) for n in range(4, 9)))
    newer = first_batch(outbox)
    assert cloud.receive(newer).upto == 8
    after = cloud.streams["s"]
    assert cloud.receive(old).upto == 8, "the mark went back"
    assert cloud.streams["s"] == replace(after, duplicates=3)
    assert outbox.apply_ack(Ack(stream="s", upto=8)) == 8
    outbox.close()


def test_a_batch_that_overtook_another_is_asked_for_again(tmp_path: Path) -> None:
    outbox, cloud = Outbox(tmp_path / "o.db", "s"), Cloud()
    outbox.append(*(sample(n) for n in range(1, 9)))
    ahead = outbox.load_batch("s", 5)
    assert ahead is not None
    assert cloud.receive(ahead).upto == 0
    assert outbox.apply_ack(Ack(stream="s", upto=0)) == 0
    assert cloud.receive(first_batch(outbox)).upto == 8
    assert cloud.streams["s"].duplicates == 0
    outbox.close()


def test_what_was_committed_outlives_a_cut_of_the_power(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", "s")
    outbox.append(sample(1), sample(2))
    assert outbox.append_once("outcome:1", event("update.succeeded"))
    (tmp_path / "after").mkdir()
    for name in ("o.db", "o.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / "after" / name)
    outbox.close()
    again = Outbox(tmp_path / "after" / "o.db", "t")
    assert (again.damaged, again.pending, again.streams()) == (None, 3, ["s"])
    assert not again.append_once("outcome:1", event("update.succeeded"))
    again.close()


def test_a_row_of_a_newer_agent_goes_to_the_dead_letters_and_is_acknowledged(tmp_path: Path) -> None:
    outbox, cloud = Outbox(tmp_path / "o.db", "s"), Cloud()
    outbox.append(sample(1), sample(2), sample(3))
    with sqlite3.connect(tmp_path / "o.db") as db:
        db.execute("UPDATE row SET payload = ? WHERE seq = 2", (FOREIGN,))
    db.close()
    ack = cloud.receive(first_batch(outbox))
    assert ack.upto == 3
    assert [(reject.seq, reject.code) for reject in ack.rejected] == [(2, "telemetry.row.invalid")]
    assert sorted(cloud.rows) == [1, 3]
    outbox.close()


def test_a_cloud_restored_from_an_older_state_counts_what_is_gone(tmp_path: Path) -> None:
    outbox, cloud = Outbox(tmp_path / "o.db", "s"), Cloud()
    outbox.append(*(sample(n) for n in range(3)))
    first = outbox.load_batch("s")
    assert first is not None
    outbox.apply_ack(cloud.receive(first))
    backup = copy.deepcopy(cloud)
    outbox.append(*(sample(n) for n in range(3, 8)))
    second = outbox.load_batch("s")
    assert second is not None
    outbox.apply_ack(cloud.receive(second))
    outbox.append(sample(8))
    third = outbox.load_batch("s")
    assert third is not None
    ack = backup.receive(third)
    assert (backup.streams["s"].lost, ack.upto) == (5, 9)
    backup.receive(second)
    assert backup.streams["s"].lost == 5
    assert len(backup.rows) == 4
    assert backup.ledgers["s"].lost == {4, 5, 6, 7, 8}
    outbox.close()


def test_a_batch_beyond_the_mark_is_dropped_and_asked_for_again() -> None:
    raw = tuple(msgspec.Raw(encode_row(msgspec.structs.replace(sample(n), seq=n))) for n in range(5, 8))
    batch = TelemetryBatch(stream="s", start=1, oldest=1, head=7, first=5, last=7, rows=raw)
    admission = admit(None, batch)
    assert (admission.state.mark, admission.rows, admission.state.lost) == (0, (), 0)


def test_a_row_that_does_not_parse_goes_to_the_dead_letters_and_moves_the_mark() -> None:
    good = msgspec.Raw(encode_row(msgspec.structs.replace(sample(1), seq=1)))
    batch = TelemetryBatch(
        stream="s", start=1, oldest=1, head=2, first=1, last=2, rows=(good, msgspec.Raw(b'{"kind":"?"}'))
    )
    admission = admit(None, batch)
    assert admission.state.mark == 2
    assert [reject.seq for reject in admission.rejects] == [2]
    assert [row.seq for row in admission.rows] == [1]


def test_rows_that_do_not_follow_each_other_go_to_the_dead_letters_and_hold_up_nothing() -> None:
    rows = [msgspec.Raw(encode_row(msgspec.structs.replace(sample(n), seq=n))) for n in (1, 3)]
    for last in (2, 3):
        batch = TelemetryBatch(stream="s", start=1, oldest=1, head=9, first=1, last=last, rows=tuple(rows))
        admission = admit(None, batch)
        assert (admission.state.mark, admission.state.rejected, admission.rows) == (last, last, ())
        assert {reject.code for reject in admission.rejects} == {"telemetry.batch.tiling"}
        assert [reject.seq for reject in admission.rejects] == [1, 2]
        again = admit(admission.state, batch)
        assert (again.state.mark, again.state.rejected, again.rejects) == (last, last, ())


def test_a_batch_that_claims_endless_rows_costs_no_memory() -> None:
    batch = TelemetryBatch(
        stream="s", start=1, oldest=1, head=2**62, first=1, last=2**62, rows=(msgspec.Raw(b"[]"),)
    )
    admission = admit(None, batch)
    assert (admission.state.mark, admission.state.rejected, len(admission.rejects)) == (2**62, 2**62, 1)


def test_what_a_lost_outbox_held_is_counted_as_lost() -> None:
    assert close(StreamState(start=1, mark=4, head=9, lost=2)) == StreamState(start=1, mark=9, head=9, lost=7)


def test_samples_are_thinned_first_then_events_and_outcomes_never(tmp_path: Path) -> None:
    limits = OutboxLimits(rows=10, thin_rows=5)
    outbox = Outbox(tmp_path / "o.db", "s", limits)
    assert outbox.append_once("outcome:1", event("update.succeeded"))
    for n in range(100):
        outbox.append(sample(n), event("worker.exited"))
    assert outbox.pending <= 10, "isolated tombstones must not pile up"
    kept = [decode_row(raw) for raw in rows_of(outbox)]
    assert not any(isinstance(row, Sample) for row in kept)
    assert outbox.name == "s"
    admission = admit(None, first_batch(outbox))
    assert admission.state.events + admission.state.thinned == 201
    assert next(row.name for row in admission.rows if isinstance(row, Event)) == "update.succeeded"
    outbox.close()
    later = Outbox(tmp_path / "o.db", "later")
    assert later.name == "s"
    later.close()


def test_a_row_that_cannot_be_written_down_is_one_error_and_no_gap(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", "s")
    too_long = msgspec.structs.replace(sample(1), values={f"{n:0200}": 1.0 for n in range(60)})
    surrogate = msgspec.structs.replace(event("a"), detail={"path": "\udcff"})
    for row in (too_long, surrogate):
        with pytest.raises(OutboxError) as caught:
            outbox.append(sample(0), row)
        assert caught.value.code == "outbox.row"
    outbox.append(sample(2))
    assert outbox.pending == 1
    assert admit(None, first_batch(outbox)).state.lost == 0
    outbox.close()


def first_batch(outbox: Outbox) -> TelemetryBatch:
    batch = outbox.load_batch(outbox.streams()[0])
    assert batch is not None
    return batch


def rows_of(outbox: Outbox) -> tuple[msgspec.Raw, ...]:
    return first_batch(outbox).rows


def test_a_tombstone_that_overlaps_the_mark_is_counted_once() -> None:
    tombstone = Tombstone(seq=1, last=10, boot_id="b", boot_ms=1)
    batch = TelemetryBatch(
        stream="s", start=1, oldest=1, head=10, first=1, last=10,
        rows=(msgspec.Raw(encode_row(tombstone)),),
    )  # fmt: skip
    admission = admit(StreamState(start=1, mark=4, head=4), batch)
    assert (admission.state.thinned, admission.state.duplicates, admission.state.mark) == (6, 4, 10)


def test_a_damaged_outbox_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"this is no database" * 100)
    outbox = Outbox(path, "s")
    assert outbox.damaged == tmp_path / "outbox.damaged"
    outbox.append(sample(1))
    assert outbox.pending == 1
    outbox.close()


def test_an_outbox_that_cannot_be_opened_is_opened_later(tmp_path: Path) -> None:
    path = tmp_path / "not-there-yet" / "outbox.db"
    outbox = Outbox(path, "s")
    for use in (outbox.streams, lambda: outbox.append(sample(1)), lambda: outbox.has_stored("outcome:1")):
        with pytest.raises(OutboxError):
            use()
    path.parent.mkdir()
    outbox.append(sample(2))
    assert (outbox.pending, outbox.name) == (1, "s")
    assert admit(None, first_batch(outbox)).state.lost == 0
    outbox.close()


def test_an_outcome_is_stored_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", "s")
    assert outbox.append_once("outcome:1", sample(1))
    assert not outbox.append_once("outcome:1", sample(1))
    assert outbox.append_once("outcome:2", sample(1))
    outbox.close()


def test_streams_that_are_sent_leave_nothing_behind(tmp_path: Path) -> None:
    for number in range(5):
        outbox = Outbox(tmp_path / "o.db", f"s{number}")
        outbox.append(sample(1))
        outbox.apply_ack(Ack(stream=f"s{number}", upto=1000))
        outbox.close()
    outbox = Outbox(tmp_path / "o.db", "last")
    assert outbox._db.execute("SELECT count(*) FROM stream").fetchone() == (0,)
    outbox.close()
