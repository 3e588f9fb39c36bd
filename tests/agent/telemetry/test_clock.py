"""When a wall clock is believed, and what the rows of a device say that learns the time late."""

from pathlib import Path

import pytest

from fleet_agent.journal import Journal
from fleet_agent.link.outbox import Outbox
from fleet_agent.telemetry.clock import BUILT_S, LATEST_S, ClockEvidence, DeviceClock, Evidence, judge_clock
from fleet_shared.messages.telemetry import AnyRow, Clock, Event, decode_row
from tests.kit.device_edges import FakeClock

NONE, KEPT, STEP = ClockEvidence(False, False), ClockEvidence(False, True), ClockEvidence(True, False)
BUILT_MS = BUILT_S * 1000
LATER_MS = BUILT_MS + 10_000


@pytest.mark.parametrize(
    ("wall_ms", "floor_ms", "evidence", "expected"),
    [
        (0, 0, STEP, Clock.UNSYNCED),  # 1970, whoever keeps it in step
        (BUILT_MS - 1, 0, STEP, Clock.UNSYNCED),
        (BUILT_MS, 0, STEP, Clock.SYNCED),
        (BUILT_MS, 0, KEPT, Clock.UNKNOWN),
        (BUILT_MS, 0, NONE, Clock.UNSYNCED),  # a Pi that goes on where it was switched off
        (LATER_MS, LATER_MS, STEP, Clock.SYNCED),
        (LATER_MS, LATER_MS + 1, STEP, Clock.UNSYNCED),  # before what was signed
        (LATER_MS, LATER_MS + 1, KEPT, Clock.UNSYNCED),
        (LATEST_S * 1000, 0, KEPT, Clock.UNKNOWN),
        (LATEST_S * 1000 + 1, 0, KEPT, Clock.UNSYNCED),
        (4_070_908_800_000, 0, KEPT, Clock.UNSYNCED),  # 2099: a real-time clock that lost its battery
        (4_070_908_800_000, 0, STEP, Clock.UNSYNCED),
    ],
)
def test_a_clock_is_believed_with_evidence_and_not_before_the_floor(
    wall_ms: int, floor_ms: int, evidence: ClockEvidence, expected: Clock
) -> None:
    assert judge_clock(wall_ms, floor_ms, evidence) is expected


def test_a_clock_that_was_in_step_is_believed_until_the_next_boot() -> None:
    """Offline for a night the kernel stops vouching for the clock, which runs on all the same."""
    evidence = [NONE]
    clock = DeviceClock(evidence=lambda: evidence[0], wall_s=lambda: BUILT_S + 5.0)
    assert clock.now().wall_ms is None
    evidence[0] = STEP
    assert (clock.now().wall_ms, clock.now().clock) == (BUILT_MS + 5000, Clock.SYNCED)
    evidence[0] = NONE
    assert (clock.now().wall_ms, clock.now().clock) == (BUILT_MS + 5000, Clock.UNKNOWN)
    rebooted = DeviceClock(evidence=lambda: NONE, wall_s=lambda: BUILT_S + 5.0)
    assert rebooted.now().wall_ms is None


def test_a_clock_before_the_floor_is_not_told() -> None:
    clock = DeviceClock(lambda: LATER_MS, lambda: STEP, lambda: BUILT_S + 1.0)
    assert (clock.now().wall_ms, clock.now().clock) == (None, Clock.UNSYNCED)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "kept"),
    [
        ({}, False),
        ({"proc/cpuinfo": "model name: Cortex-A72\n"}, False),
        ({"proc/cpuinfo": "flags: fpu hypervisor lahf_lm\n"}, True),
        ({"sys/hypervisor/type": "xen\n"}, True),
        ({"sys/class/rtc/rtc0/hctosys": "1\n", "sys/class/rtc/rtc0/since_epoch": f"{BUILT_S}\n"}, True),
        ({"sys/class/rtc/rtc0/hctosys": "1\n", "sys/class/rtc/rtc0/since_epoch": "77\n"}, False),
        ({"sys/class/rtc/rtc0/hctosys": "0\n", "sys/class/rtc/rtc0/since_epoch": f"{BUILT_S}\n"}, False),
    ],
)
def test_a_clock_behind_the_clock_is_found(tmp_path: Path, files: dict[str, str], kept: bool) -> None:
    assert Evidence(tree(tmp_path, files)).load().kept is kept


def test_timesyncd_says_that_the_clock_was_set_since_boot(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    tree(tmp_path, {"run/systemd/timesync/synchronized": ""})
    assert evidence.load().in_step


def test_a_clock_behind_the_clock_is_looked_for_once(tmp_path: Path) -> None:
    """It is a chip on a slow bus, and the supervisor asks for the time several times a second."""
    rtc = {"sys/class/rtc/rtc0/hctosys": "1\n", "sys/class/rtc/rtc0/since_epoch": f"{BUILT_S}\n"}
    evidence = Evidence(tree(tmp_path, rtc))
    assert evidence.load().kept
    (tmp_path / "sys/class/rtc/rtc0/since_epoch").unlink()
    assert evidence.load().kept


def load_rows(outbox: Outbox) -> list[AnyRow]:
    batch = outbox.load_batch(outbox.stream)
    return [] if batch is None else [decode_row(raw) for raw in batch.rows]


def test_once_the_time_is_known_it_is_told_once(tmp_path: Path) -> None:
    clock = FakeClock()
    journal = Journal(Outbox(tmp_path / "outbox.db", "s"), clock)
    journal.event("one")
    journal.event("two")
    clock.wall_ms = LATER_MS
    clock.seconds += 5
    journal.event("three")
    journal.event("four")
    rows = load_rows(journal.outbox)
    assert [(row.name, row.wall_ms) for row in rows if isinstance(row, Event)] == [
        ("one", None),
        ("two", None),
        ("clock.known", LATER_MS),
        ("three", LATER_MS),
        ("four", LATER_MS),
    ]
    assert rows[2].boot_ms == int(clock.seconds * 1000), "with the boot clock of the same moment"
    journal.outbox.close()


def test_a_device_that_always_knew_the_time_tells_nothing(tmp_path: Path) -> None:
    journal = Journal(Outbox(tmp_path / "outbox.db", "s"), FakeClock(wall_ms=LATER_MS))
    journal.event("one")
    assert [row.name for row in load_rows(journal.outbox) if isinstance(row, Event)] == ["one"]
    journal.outbox.close()
