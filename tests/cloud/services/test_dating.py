"""Rows written before the device knew the time get one, once it does; on SQLite and PostgreSQL alike."""

import sqlite3
from contextlib import closing
from pathlib import Path

from fleet_cloud.adapters.db.engine import migrate, open_engine
from fleet_cloud.services.telemetry import Readings
from fleet_shared.messages.telemetry import Clock, Event, Sample, Source
from fleet_shared.names import DeviceId
from tests.kit.parts import PI, Parts, batch

NOW_MS = 1_790_000_000_000


def sample(seq: int, boot_ms: int, *, boot: str = "b", wall_ms: int | None = None) -> Sample:
    return Sample(
        seq=seq, boot_id=boot, boot_ms=boot_ms, wall_ms=wall_ms, clock=Clock.UNSYNCED,
        source=Source.HOST, values={"h": float(seq)},
    )  # fmt: skip


def event(seq: int, boot_ms: int, name: str, wall_ms: int | None = NOW_MS, boot: str = "b") -> Event:
    return Event(seq=seq, boot_id=boot, boot_ms=boot_ms, wall_ms=wall_ms, name=name)


def load_times(parts: Parts, device: DeviceId = PI) -> list[int]:
    (series,) = Readings(parts.uow).series(device, "h", "host", 0, 10_000)
    return [point.at_ms for point in series.points]


def test_a_clock_event_dates_the_rows_of_its_boot(parts: Parts) -> None:
    parts.add_device()
    parts.add_device("pi-2")
    parts.clock.at_ms = NOW_MS + 500_000
    received = parts.clock.at_ms
    parts.observe.telemetry(DeviceId("pi-2"), batch(sample(1, 1_000)))
    parts.observe.telemetry(PI, batch(sample(1, 900_000, boot="an earlier boot"), sample(2, 1_000)))
    assert load_times(parts) == [received, received]
    parts.observe.telemetry(
        PI, batch(event(3, 5_000, "worker.exited", None), sample(4, 6_000), event(5, 10_000, "clock.known"))
    )
    assert load_times(parts) == [received, NOW_MS - 9_000, NOW_MS - 4_000]
    assert load_times(parts, DeviceId("pi-2")) == [received], "another device's clock is its own"
    events = {
        one.row.name: one.row.wall_ms
        for one in Readings(parts.uow).events("pi-1", 0, 10)
        if isinstance(one.row, Event)
    }
    assert events["worker.exited"] == NOW_MS - 5_000


def test_a_time_that_was_read_is_not_changed_and_a_corrected_one_can_be_told(parts: Parts) -> None:
    parts.add_device()
    parts.observe.telemetry(
        PI, batch(sample(1, 1_000), sample(2, 2_000, wall_ms=7), event(3, 10_000, "clock.known"))
    )
    assert load_times(parts) == [NOW_MS - 9_000, 7]
    with parts.uow.read() as transaction:
        rows = [one.row for one in transaction.telemetry.samples(PI, "host", 0, 10)]
    assert [row.clock for row in rows] == [Clock.UNSYNCED, Clock.UNSYNCED]


def test_a_start_of_the_agent_that_knows_the_time_dates_what_an_earlier_one_left(parts: Parts) -> None:
    parts.add_device()
    parts.observe.telemetry(PI, batch(event(1, 500, "agent.started", None), sample(2, 1_000)))
    parts.observe.telemetry(PI, batch(event(3, 10_000, "agent.started"), stream="another"))
    assert load_times(parts) == [NOW_MS - 9_000]


def test_other_events_and_events_without_a_time_date_nothing(parts: Parts) -> None:
    parts.add_device()
    parts.clock.at_ms = received = NOW_MS + 1
    parts.observe.telemetry(
        PI, batch(sample(1, 1_000), event(2, 9_000, "clock.known", None), event(3, 10_000, "worker.exited"))
    )
    assert load_times(parts) == [received]


def test_as_many_rows_as_there_are_are_dated(parts: Parts) -> None:
    """More than a page; a boot id with the wildcards of LIKE is no wildcard."""
    parts.add_device()
    boot = 'b%_"\\'
    for first in range(1, 2400, 200):
        parts.observe.telemetry(PI, batch(*(sample(n, n, boot=boot) for n in range(first, first + 200))))
    parts.observe.telemetry(PI, batch(event(2401, 5_000, "clock.known", boot=boot)))
    assert load_times(parts) == [NOW_MS - 5_000 + n for n in range(1, 2401)]


def test_a_clock_that_is_nonsense_does_no_harm(parts: Parts) -> None:
    """One says that the device booted before 1970, one that it is the end of time."""
    parts.add_device()
    parts.observe.telemetry(PI, batch(sample(1, 1_000), event(2, 10_000, "clock.known", 5)))
    assert load_times(parts) == [0]
    parts.observe.telemetry(PI, batch(sample(3, 50_000), event(4, 10_000, "clock.known", 2**63 - 1)))
    assert load_times(parts) == [0, 2**63 - 1]


def test_a_device_that_cannot_tell_its_boots_apart_dates_nothing(parts: Parts) -> None:
    parts.add_device()
    parts.clock.at_ms = received = NOW_MS + 1
    parts.observe.telemetry(
        PI, batch(sample(1, 1_000, boot="unknown"), event(2, 9_000, "clock.known", boot="unknown"))
    )
    assert load_times(parts) == [received]


def test_rows_without_a_time_are_found_without_reading_all_others(tmp_path: Path) -> None:
    """An agent that starts again and again must not cost the database a walk over all that it ever sent."""
    engine = open_engine(f"sqlite:///{tmp_path / 'fleet.db'}")
    migrate(engine)
    engine.dispose()
    query = "SELECT * FROM telemetry WHERE device = 'a' AND wall_ms IS NULL ORDER BY stream, seq LIMIT 5"
    with closing(sqlite3.connect(tmp_path / "fleet.db")) as db:
        plan = " ".join(str(row) for row in db.execute(f"EXPLAIN QUERY PLAN {query}"))
    assert "USING INDEX ix_telemetry_undated" in plan
    assert "TEMP B-TREE" not in plan
