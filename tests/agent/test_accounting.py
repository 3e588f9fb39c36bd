"""The real outbox and the real mark, under loss, duplicates, reordering and crashes of both sides.

Whatever happens: a row that was committed on the device is in the store exactly once, or under a
tombstone, or in the dead letters, or still on the device, or counted as lost.
"""

import copy
import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fleet_agent.errors import OutboxError
from fleet_agent.link.outbox import Outbox, OutboxLimits
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

LIMITS = OutboxLimits(rows=30, thin_rows=8)


def sample(value: float) -> Sample:
    return Sample(seq=0, boot_id="b", boot_ms=1, source=Source.HOST, values={"n": value})


class Cloud:
    """What a database would hold: committed together, restored together."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamState] = {}
        self.rows: dict[tuple[str, int], float] = {}
        self.dead: set[tuple[str, int]] = set()

    def receive(self, batch: TelemetryBatch) -> Ack:
        admission = admit(self.streams.get(batch.stream), batch)
        for row in admission.rows:
            key = (batch.stream, row.seq)
            assert key not in self.rows, "a row was stored twice"
            assert isinstance(row, Sample)
            self.rows[key] = row.values["n"]
        self.dead |= {(batch.stream, reject.seq) for reject in admission.rejects}
        self.streams[batch.stream] = admission.state
        return Ack(stream=batch.stream, upto=admission.state.mark, rejected=admission.rejections)


class Accounting(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.runs = 0
        self.made = 0
        self.cloud = Cloud()
        self.backup = copy.deepcopy(self.cloud)
        self.to_cloud: list[TelemetryBatch] = []
        self.to_device: list[Ack] = []
        self.outbox = self.open()

    def open(self) -> Outbox:
        self.runs += 1
        return Outbox(self.folder / "outbox.db", f"stream-{self.runs}", LIMITS)

    @rule(count=st.integers(1, 12))
    def measure(self, count: int) -> None:
        for _ in range(count):
            self.made += 1
            self.outbox.append(sample(float(self.made)))

    @rule(after=st.integers(0, 3))
    def send(self, after: int) -> None:
        for stream in self.outbox.streams():
            first = self.outbox.load_batch(stream)
            assert first is not None
            batch = self.outbox.load_batch(stream, first.first + after - 1) if after else first
            if batch is not None:
                self.to_cloud.append(batch)

    @precondition(lambda self: self.to_cloud)
    @rule(data=st.data(), keep=st.booleans(), lose_ack=st.booleans())
    def deliver(self, data: st.DataObject, keep: bool, lose_ack: bool) -> None:
        index = data.draw(st.integers(0, len(self.to_cloud) - 1))
        batch = self.to_cloud[index] if keep else self.to_cloud.pop(index)
        ack = self.cloud.receive(batch)
        if not lose_ack:
            self.to_device.append(ack)

    @precondition(lambda self: self.to_device)
    @rule(data=st.data(), keep=st.booleans())
    def acknowledge(self, data: st.DataObject, keep: bool) -> None:
        index = data.draw(st.integers(0, len(self.to_device) - 1))
        self.outbox.apply_ack(self.to_device[index] if keep else self.to_device.pop(index))

    @rule()
    def the_device_restarts(self) -> None:
        self.outbox.close()
        self.outbox = self.open()

    @rule()
    def the_network_forgets(self) -> None:
        self.to_cloud.clear()
        self.to_device.clear()

    @rule()
    def settle(self) -> None:
        """A quiet time: everything on the device arrives, and the books balance."""
        self.to_cloud.clear()
        self.to_device.clear()
        for _ in range(100):
            streams = self.outbox.streams()
            if not streams:
                break
            batch = self.outbox.load_batch(streams[0])
            assert batch is not None
            self.outbox.apply_ack(self.cloud.receive(batch))
        assert self.outbox.pending == 0
        states = self.cloud.streams.values()
        thinned, lost = sum(s.thinned for s in states), sum(s.lost for s in states)
        assert lost == 0
        assert len(self.cloud.rows) + thinned == self.made
        assert len(set(self.cloud.rows.values())) == len(self.cloud.rows)

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        if not hasattr(self, "cloud"):
            return
        for name, state in self.cloud.streams.items():
            stored = sum(1 for stream, _ in self.cloud.rows if stream == name)
            assert stored + state.thinned + state.rejected + state.lost == state.mark - state.start + 1
            assert min(state.lost, state.thinned, state.duplicates, state.pending) >= 0

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.outbox.close()
            shutil.rmtree(self.folder)


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


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
    assert Outbox(tmp_path / "o.db", "later").name == "s"


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


def event(name: str) -> Event:
    return Event(seq=0, boot_id="b", boot_ms=1, name=name)


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


def test_an_outcome_is_stored_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", "s")
    assert outbox.append_once("outcome:1", sample(1))
    assert not outbox.append_once("outcome:1", sample(1))
    assert outbox.append_once("outcome:2", sample(1))
    outbox.close()
