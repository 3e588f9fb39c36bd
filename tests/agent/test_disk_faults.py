"""What rots on the disk of a device while its agent runs or is away: it says so and goes on with what is
left. Real slots and a real outbox; see `tests.system.test_disk` for whole processes."""

import errno
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_agent.errors import OutboxError
from fleet_agent.journal import HELD_MAX, Journal
from fleet_agent.link.outbox import Outbox, OutboxLimits
from fleet_agent.slots import Slots
from fleet_agent.update.inspection import SlotInspected
from fleet_shared.messages.desired import WhenTight
from fleet_shared.messages.telemetry import AnyRow, Event, Sample, Source, Tombstone, decode_row
from fleet_shared.messages.update import UpdateState as S
from fleet_shared.names import digest_of
from tests.kit.device import Device
from tests.kit.device_edges import SOAK_S, FakeClock, make_manifest, make_stats


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device that runs 2.0.0 and ran 1.0.0 before."""
    one = Device(tmp_path)
    one.boot()
    one.install("1.0.0", "a-1", 1)
    one.install("2.0.0", "a-2", 2)
    yield one
    one.close()


def rot(device: Device, version: str, file: str = "model.tflite") -> None:
    path = device.slots.path(digest_of(make_manifest(version))) / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def names(device: Device, part: str) -> list[str]:
    return [event.name for event in device.events if part in event.name]


# -- models


@pytest.mark.parametrize("file", ["model.tflite", "golden.npz", "manifest.json"])
def test_a_damaged_active_model_gives_way_to_the_one_before(device: Device, file: str) -> None:
    rot(device, "2.0.0", file)
    device.crash()
    device.boot()
    device.run_until(lambda: device.served == "1.0.0")
    assert device.slots.load_pointers().previous is None
    (event,) = [event for event in device.events if event.name == "slot.damaged"]
    assert event.assignment == "a-2"
    assert event.failure is not None
    assert event.failure.hint
    kept_as = Path(str(event.detail["kept_as"]))
    assert (kept_as / file).exists()
    report = device.link.reports[-1]
    assert (report.active and report.active.version, report.previous) == ("1.0.0", None)
    device.install("3.0.0", "a-3", 3)


def test_a_damaged_previous_model_is_named_no_more(device: Device) -> None:
    rot(device, "1.0.0")
    device.crash()
    device.boot()
    device.run_until(lambda: device.slots.load_pointers().previous is None)
    assert device.active == device.served == "2.0.0"
    assert names(device, "slot.") == ["slot.damaged"]


def test_a_model_that_rots_while_it_runs_is_found_when_its_worker_starts_again(device: Device) -> None:
    device.run_until(lambda: not device.agent.updates.inspection._busy)
    rot(device, "2.0.0")
    device.run(5)
    assert device.served == "2.0.0", "what is in memory is whole"
    device.worker.exit(-signal.SIGSEGV)
    device.run_until(lambda: device.served == "1.0.0")
    assert names(device, "slot.") == ["slot.damaged"]


def test_a_worker_that_ends_for_another_reason_condemns_no_model(device: Device) -> None:
    device.worker.exit(-signal.SIGSEGV)
    device.run_until(lambda: not device.agent.updates.inspection._busy)
    device.run(5)
    assert device.served == "2.0.0"
    assert names(device, "slot.") == []


def test_a_device_whose_only_models_are_damaged_serves_none_and_takes_the_next_one(device: Device) -> None:
    rot(device, "1.0.0")
    rot(device, "2.0.0")
    device.crash()
    device.boot()
    device.run_until(lambda: device.slots.load_pointers().active is None)
    assert device.served is None
    device.run(1.0)
    assert device.link.reports[-1].active is None
    device.install("2.0.0", "a-3", 3)
    assert device.active == "2.0.0"


def test_a_return_to_a_model_that_rotted_goes_further_back(device: Device) -> None:
    device.run_until(lambda: not device.agent.updates.inspection._busy)
    device.push("3.0.0", "a-3", 3)
    device.soak()
    rot(device, "2.0.0")
    device.worker.say(make_stats(requests=20, errors=20))
    device.run()
    assert device.state() is S.ROLLED_BACK
    device.worker.exit(1)
    device.run_until(lambda: device.served == "1.0.0")
    assert device.active == "1.0.0"
    assert device.outcomes[2:] == [("rolled-back", "a-3")]


def test_an_update_does_not_count_on_a_model_that_is_gone(device: Device) -> None:
    """The active one is found damaged while the next one is on its way: what is left is the way back."""
    device.run_until(lambda: not device.agent.updates.inspection._busy)
    device.downloads.clear()
    device.push("3.0.0", "a-3", 3)
    rot(device, "2.0.0")
    device.worker.exit(-signal.SIGSEGV)
    device.run_until(lambda: device.served == "1.0.0")
    device.downloads.set()
    device.soak()
    device.worker.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.state() is S.SUCCEEDED
    previous = device.slots.load_pointers().previous
    assert previous is not None
    assert previous.version == "1.0.0"
    assert device.slots.is_intact(previous.manifest)


def test_a_self_test_goes_on_while_the_active_model_gives_way(device: Device) -> None:
    device.run_until(lambda: not device.agent.updates.inspection._busy)
    active = device.worker
    device.push("3.0.0", "a-3", 3)
    device.reach(S.SELF_TESTING)
    candidate = device.worker
    rot(device, "2.0.0")
    active.exit(-signal.SIGSEGV)
    device.run_until(lambda: device.served == "1.0.0")
    assert candidate.done == []
    candidate.ready()
    device.run()
    candidate.serving()
    candidate.say(make_stats())
    device.run(SOAK_S + 1)
    assert device.outcomes[2:] == [("succeeded", "a-3")]
    assert device.active == device.served == "3.0.0"


def test_a_model_that_gives_way_within_a_gap_takes_no_memory(device: Device) -> None:
    device.run_until(lambda: not device.agent.updates.inspection._busy)
    active, device.tight = device.slots.load_pointers().active, True
    old = device.worker
    device.push("3.0.0", "a-3", 3, when_tight=WhenTight.GAP)
    device.reach(S.SELF_TESTING)
    device.run(1.0)
    old.exit(0)
    device.run(10.0)  # 1.0.0 did not leave by itself
    candidate = device.worker
    assert candidate.spec.assignment == "a-3"
    rot(device, "2.0.0")
    device.agent.updates.inspection.ask(active)
    device.run_until(lambda: device.slots.load_pointers().previous is None)
    assert device.worker is candidate, "memory holds no second one"
    candidate.exit(-signal.SIGSEGV)
    device.run()
    assert device.served == "1.0.0"


@pytest.mark.parametrize("found", ["in the trial", "after a restart in the trial"])
def test_a_failed_trial_does_not_return_to_a_model_that_is_gone(device: Device, found: str) -> None:
    device.run_until(lambda: not device.agent.updates.inspection._busy)
    device.push("3.0.0", "a-3", 3)
    device.soak()
    rot(device, "2.0.0")
    if found == "in the trial":
        device.agent.updates.inspection.ask(device.slots.load_pointers().previous)
    else:
        device.crash()
        device.boot()
    device.run_until(lambda: device.slots.load_pointers().previous is None)
    device.worker.exit(-signal.SIGSEGV)
    device.run()
    assert device.outcomes[2:] == [("rolled-back", "a-3")]
    assert device.active == device.served == "1.0.0"


@pytest.mark.parametrize("again", [False, True])
def test_a_slot_that_an_update_wrote_anew_is_not_condemned_for_what_it_was(
    device: Device, again: bool
) -> None:
    """The damaged active model is pushed again, and what was read of it before is told late. Only what is
    damaged afterwards counts."""
    device.run_until(lambda: not device.agent.updates.inspection._busy)
    active = device.slots.load_pointers().active
    assert active is not None
    device.push("2.0.0", "a-3", 3)
    device.reach(S.SELF_TESTING)
    device.agent.inbox.put(SlotInspected(active, whole=False))
    device.soak()
    device.worker.say(make_stats())
    if again:
        rot(device, "2.0.0")
    device.run(SOAK_S + 1)
    assert device.outcomes[2:] == [("succeeded", "a-3")]
    if again:
        device.run_until(lambda: device.served == "1.0.0")
        return
    device.run_until(lambda: not device.agent.updates.inspection._busy)
    assert device.active == device.served == "2.0.0"
    assert names(device, "slot.") == []


def test_what_cannot_be_judged_condemns_no_model(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    device.run_until(lambda: not device.agent.updates.inspection._busy)
    monkeypatch.setattr("fleet_agent.slots._digest_file", refuse)
    device.worker.exit(-signal.SIGSEGV)
    device.run_until(lambda: not device.agent.updates.inspection._busy)
    device.run(5)
    assert device.served == "2.0.0"
    assert names(device, "slot.") == []


def test_a_model_whose_bytes_cannot_be_read_any_more_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    slots = Slots(tmp_path / "slots", tmp_path / "slots.json")
    raw = make_manifest("1.0.0")
    slots.path(digest_of(raw)).mkdir()
    (slots.path(digest_of(raw)) / "manifest.json").write_bytes(raw)
    monkeypatch.setattr("fleet_agent.slots._digest_file", refuse)
    assert not slots.is_intact(digest_of(raw))


def test_only_the_newest_damaged_model_is_kept_and_goes_with_the_next_update(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", tmp_path / "slots.json")
    one, two = digest_of(b"1"), digest_of(b"2")
    for name in (one, two):
        slots.path(name).mkdir()
        slots.set_slot_aside(name)
    assert [path.name for path in (tmp_path / "slots").glob("*.damaged")] == [f"{two}.damaged"]
    slots.prune([])
    assert list((tmp_path / "slots").iterdir()) == []


def test_older_models_stay_within_their_budget_newest_first(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", tmp_path / "slots.json")
    for age, name in enumerate("abcd"):
        folder = tmp_path / "slots" / name
        folder.mkdir()
        (folder / "model").write_bytes(bytes(100))
        os.utime(folder, (1000 - age, 1000 - age))
    slots.prune([digest_of(b"active")], 250)
    assert sorted(path.name for path in (tmp_path / "slots").iterdir()) == ["a", "b"]
    slots.prune([], 99)
    assert list((tmp_path / "slots").iterdir()) == []


@pytest.mark.parametrize("end", [S.FAILED, S.ROLLED_BACK])
def test_first_installs_that_fail_do_not_pile_up(tmp_path: Path, end: S) -> None:
    device = Device(tmp_path)
    device.boot()
    for generation, version in enumerate(("1.0.0", "2.0.0", "3.0.0"), 1):
        device.push(version, f"a-{generation}", generation)
        if end is S.ROLLED_BACK:
            device.soak()
        device.reach(S.SELF_TESTING if end is S.FAILED else S.SOAKING)
        device.worker.exit(-signal.SIGSEGV)
        device.run()
        assert device.state() is end
    assert list((tmp_path / "slots").iterdir()) == []
    device.close()


# -- the outbox


def event(name: str, boot_ms: int = 1, boot_id: str = "b", wall_ms: int | None = None) -> Event:
    return Event(seq=0, boot_id=boot_id, boot_ms=boot_ms, wall_ms=wall_ms, name=name)


def sample(boot_ms: int, boot_id: str = "b", wall_ms: int | None = None) -> Sample:
    return Sample(
        seq=0, boot_id=boot_id, boot_ms=boot_ms, wall_ms=wall_ms, source=Source.HOST, values={"n": 1.0}
    )


def rows(outbox: Outbox) -> list[AnyRow]:
    found: list[AnyRow] = []
    for stream in outbox.streams():
        batch = outbox.load_batch(stream)
        found += [] if batch is None else [decode_row(raw) for raw in batch.rows]
    return found


def damage(path: Path) -> None:
    """Overwrite the database and its log in place, after another writer made the reader look again."""
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO once VALUES ('x')")
    other.close()
    for file in (path, path.with_name(path.name + "-wal")):
        with file.open("r+b") as content:
            content.write(os.urandom(file.stat().st_size))


def test_an_outbox_that_is_damaged_while_the_agent_runs_begins_anew(tmp_path: Path) -> None:
    streams = iter(["second", "third"])
    outbox = Outbox(tmp_path / "o.db", "first", new_stream=lambda: next(streams))
    journal = Journal(outbox, FakeClock())
    journal.event("before")
    damage(tmp_path / "o.db")
    journal.event("after")
    journal.event("later")
    journal.tick(0.0)
    assert (outbox.stream, outbox.name) == ("second", "second")
    assert [row.name for row in rows(outbox) if isinstance(row, Event)] == ["after", "later", "outbox.reset"]
    assert (tmp_path / "o.damaged").exists()
    assert journal.trouble is None
    outbox.close()


def test_a_reader_that_finds_the_damage_does_not_fail_for_ever(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", "first")
    outbox.append(sample(1))
    damage(tmp_path / "o.db")
    with pytest.raises(OutboxError) as caught:
        outbox.streams()
    assert caught.value.code == "outbox.damaged"
    assert outbox.streams() == []
    outbox.append(sample(2))
    assert outbox.pending == 1
    outbox.close()


@pytest.mark.parametrize("when", ["at the start", "under way"])
def test_a_damaged_outbox_that_cannot_be_set_aside_costs_no_agent_and_begins_anew_later(
    tmp_path: Path, when: str
) -> None:
    """Numbers that start anew under the same stream would be taken for duplicates."""
    (tmp_path / "o.damaged" / "in the way").mkdir(parents=True)
    if when == "at the start":
        (tmp_path / "o.db").write_bytes(os.urandom(20_000))
    outbox = Outbox(tmp_path / "o.db", "first", new_stream=lambda: "second")
    journal = Journal(outbox, FakeClock())
    if when == "under way":
        journal.event("sent")
        damage(tmp_path / "o.db")
    journal.event("kept")
    assert trouble_of(journal) == "outbox.damaged"
    shutil.rmtree(tmp_path / "o.damaged")
    journal.event("later")
    journal.tick(0.0)
    assert trouble_of(journal) is None
    assert [row.name for row in rows(outbox) if isinstance(row, Event)] == ["kept", "later", "outbox.reset"]
    assert outbox.streams() == ["first" if when == "at the start" else "second"]
    outbox.close()


def test_an_outbox_that_was_closed_by_a_read_error_and_is_damaged_begins_a_new_stream(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", "first", new_stream=lambda: "second")
    outbox.append(sample(1))
    outbox.close()  # as after an I/O error
    for file in tmp_path.glob("o.db*"):
        file.write_bytes(os.urandom(20_000))
    outbox.append(sample(2))
    assert outbox.streams() == ["second"]
    assert outbox.damaged == tmp_path / "o.damaged"
    outbox.close()


def test_a_row_whose_bytes_rotted_is_sent_as_such_and_holds_up_nobody(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", "s")
    outbox.append(sample(1), sample(2), sample(3))
    outbox._db.execute("UPDATE row SET payload = ? WHERE seq = 2", (b"\xff{rotten",))
    batch = outbox.load_batch("s")
    assert batch is not None
    assert [b'"damaged"' in bytes(raw) for raw in batch.rows] == [False, True, False]
    assert (batch.first, batch.last) == (1, 3)
    outbox.close()


def test_what_is_too_old_is_thinned_out_as_far_as_its_age_is_known(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", "s", OutboxLimits(age_s=100.0))
    outbox.append(
        sample(0),
        sample(0, "an older boot"),
        sample(0, "an older boot", wall_ms=1_000_000),
        event("old"),
        sample(150_000),
    )
    outbox.append_once("outcome:1", event("update.succeeded"))
    clock = FakeClock(boot_id="b", seconds=200.0, wall_ms=2_000_000)
    assert outbox.thin_old(clock.now()) == 3
    kept = [(type(row), row.seq, row.last_seq) for row in rows(outbox)]
    assert kept == [(Tombstone, 1, 1), (Sample, 2, 2), (Tombstone, 3, 4), (Sample, 5, 5), (Event, 6, 6)]
    assert outbox.thin_old(clock.now()) == 0
    outbox.close()


def trouble_of(journal: Journal) -> str | None:
    return None if journal.trouble is None else journal.trouble.code


class Refusing(Outbox):
    """A disk that takes nothing for a while."""

    refuses = False

    def append(self, *rows: AnyRow) -> None:
        if self.refuses:
            raise OutboxError("the disk is read-only", code="outbox.readonly")
        super().append(*rows)


def test_rows_wait_in_memory_while_the_disk_takes_none(tmp_path: Path) -> None:
    outbox = Refusing(tmp_path / "o.db", "s")
    journal = Journal(outbox, FakeClock())
    outbox.refuses = True
    for number in range(HELD_MAX - 1):
        journal.host({"n": float(number)})
    journal.event("kept")
    assert trouble_of(journal) == "outbox.readonly"
    for number in range(10):
        journal.host({"n": float(number)})
    outbox.refuses = False
    journal.event("writable")
    assert trouble_of(journal) is None
    stored = outbox.pending
    assert stored == HELD_MAX + 1, "as many as memory holds, and what was lost"
    events = outbox._db.execute("SELECT payload FROM row WHERE kind = 'event' ORDER BY seq").fetchall()
    told = [row for (raw,) in events if isinstance(row := decode_row(raw), Event)]
    assert [row.name for row in told] == ["kept", "writable", "telemetry.lost"]
    assert told[-1].detail == {"rows": 11}
    outbox.close()


class RefusesOnce(Refusing):
    """The disk takes what was held, and then not what was lost."""

    def append(self, *rows: AnyRow) -> None:
        lost = [row for row in rows if isinstance(row, Event) and row.name == "telemetry.lost"]
        if lost and not self.refused:
            self.refused = True
            raise OutboxError("the disk is full", code="outbox.full")
        super().append(*rows)

    refused = False


def test_what_was_lost_is_said_also_when_the_disk_refuses_that_at_first(tmp_path: Path) -> None:
    outbox = RefusesOnce(tmp_path / "o.db", "s")
    journal = Journal(outbox, FakeClock())
    outbox.refuses = True
    for number in range(HELD_MAX + 10):
        journal.host({"n": float(number)})
    outbox.refuses = False
    journal.event("first")
    assert trouble_of(journal) == "outbox.full"
    journal.event("second")
    assert trouble_of(journal) is None
    (raw,) = outbox._db.execute("SELECT payload FROM row ORDER BY seq DESC LIMIT 1").fetchone()
    told = decode_row(raw)
    assert isinstance(told, Event)
    assert (told.name, told.detail) == ("telemetry.lost", {"rows": 11})
    outbox.close()


# -- desired states and the clock


def test_a_desired_state_that_was_expired_by_a_wrong_clock_is_judged_again(device: Device) -> None:
    device.trust.expired = True
    device.clock.wall_ms = 9_000_000_000
    device.push("3.0.0", "a-3", 3)
    device.live(30)
    assert len(device.trust.asked) == 3, "the same time gives the same verdict"
    assert device.saved.entry.assignment == "a-2"
    device.trust.expired = False
    device.clock.wall_ms = 1_000_000_000
    device.run(1.0)
    device.soak()
    assert device.saved.entry.assignment == "a-3"


def test_what_keeps_a_device_from_obeying_is_in_its_report(device: Device) -> None:
    device.trust.unreachable = True
    device.push("3.0.0", "a-3", 3)
    device.live(2)
    assert [one.code for one in device.link.reports[-1].trouble] == ["trust.unreachable"]
    device.trust.unreachable = False
    device.live(10)
    assert device.link.reports[-1].trouble == ()


def test_a_model_without_a_runtime_is_refused_in_one_step(device: Device) -> None:
    """Saved once: there is no instant at which a restart would find it under way."""
    import msgspec

    from fleet_agent.update.record import RecordFile

    device.crash()
    device.facts = msgspec.structs.replace(device.facts, runtimes=())
    device.boot()
    saved: list[str] = []
    original = RecordFile.save

    def note(file: RecordFile, record: object) -> None:
        saved.append(record.state.value)  # type: ignore[attr-defined]
        original(file, record)  # type: ignore[arg-type]

    patch = pytest.MonkeyPatch()
    patch.setattr(RecordFile, "save", note)
    try:
        device.push("3.0.0", "a-3", 3)
        device.run()
    finally:
        patch.undo()
    assert saved == ["failed", "failed"], "with the failure, and that it was told"
    assert device.failure_code() == "runtime.incompatible"
    assert device.outcomes[2:] == [("failed", "a-3")]
