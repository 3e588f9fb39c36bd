"""The record of an update: what a restart, a reboot and a damaged disk make of it."""

from pathlib import Path

import msgspec
import pytest

from fleet_agent.update.record import RecordFile, UpdateRecord
from fleet_shared.messages.reported import Failure
from fleet_shared.messages.update import UpdateState
from tests.agent.test_plan import started

RECORD = msgspec.structs.replace(started(), started_ms=1000, saved_ms=4000, deadline_ms=9000)
FIRST, SECOND = Failure(code="a", message="first"), Failure(code="b", message="second")


def test_within_one_boot_nothing_is_moved() -> None:
    assert RECORD.rebased("boot", 7777) is RECORD


@pytest.mark.parametrize("now_ms", [50, 1_000_000])
def test_after_a_reboot_what_was_left_of_the_deadline_is_left_now(now_ms: int) -> None:
    moved = RECORD.rebased("second boot", now_ms)
    assert (moved.boot_id, moved.saved_ms) == ("second boot", now_ms)
    assert moved.deadline_ms - now_ms == 9000 - 4000
    assert now_ms - moved.started_ms == 4000 - 1000
    expected = msgspec.structs.replace(
        RECORD, boot_id="second boot", saved_ms=now_ms, started_ms=now_ms - 3000, deadline_ms=now_ms + 5000
    )
    assert moved == expected


def test_two_reboots_in_a_row_keep_what_is_left() -> None:
    again = RECORD.rebased("second", 10).rebased("third", 500)
    assert again.deadline_ms - 500 == 5000


def test_saving_moves_the_time_of_saving_only() -> None:
    assert RECORD.saved_at(5555) == msgspec.structs.replace(RECORD, saved_ms=5555)


def test_the_first_failure_is_kept_and_evidence_is_gathered() -> None:
    failed = RECORD.at(UpdateState.ROLLING_BACK, failure=FIRST, evidence={"a": 1, "b": 2})
    later = failed.at(UpdateState.ROLLED_BACK, failure=SECOND, evidence={"b": 3})
    assert later.state is UpdateState.ROLLED_BACK
    assert later.failure == FIRST
    assert later.evidence == {"a": 1, "b": 3}
    assert later.at(UpdateState.ROLLED_BACK) == later
    assert RECORD.at(UpdateState.FAILED).failure is None


def test_a_record_reads_back_whole(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "update.json")
    assert file.load() is None
    record = msgspec.structs.replace(
        RECORD.at(UpdateState.FAILED, failure=FIRST, evidence={"x": 1.5}), resumes=3, outcome_reported=True
    )
    file.save(RECORD)
    file.save(record)
    assert file.load() == record
    assert [path.name for path in tmp_path.iterdir()] == ["update.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[" * 5000, b"null", b"{}"])
def test_a_damaged_record_is_an_error_and_can_be_set_aside(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "update.json"
    path.write_bytes(damage)
    file = RecordFile(path)
    with pytest.raises(ValueError, match=r"update\.json"):
        file.load()
    assert file.set_aside() == tmp_path / "update.damaged"
    assert (tmp_path / "update.damaged").read_bytes() == damage
    assert file.load() is None


@pytest.mark.parametrize("schema", [0, 2])
def test_a_record_of_another_schema_is_an_error(tmp_path: Path, schema: int) -> None:
    file = RecordFile(tmp_path / "update.json")
    file.save(msgspec.structs.replace(RECORD, schema=schema))
    with pytest.raises(ValueError, match="schema"):
        file.load()


def test_a_state_that_a_newer_agent_wrote_reads_as_unknown(tmp_path: Path) -> None:
    path = tmp_path / "update.json"
    path.write_bytes(msgspec.json.encode(RECORD).replace(b'"state":"downloading"', b'"state":"teleporting"'))
    loaded = RecordFile(path).load()
    assert isinstance(loaded, UpdateRecord)
    assert loaded.state is UpdateState.UNKNOWN
