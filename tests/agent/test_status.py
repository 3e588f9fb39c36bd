"""``fleet-agent status`` as an operator reads it, of folders in many states."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from fleet_agent.identity import Identity, save_identity
from fleet_agent.link.note import LinkNote
from fleet_agent.link.note import save_note as save_link_note
from fleet_agent.link.outbox import Outbox
from fleet_agent.paths import StatePaths
from fleet_agent.rows import event_row
from fleet_agent.status import describe_link, describe_status, load_outbox, load_status
from fleet_agent.trust_report import TrustNote, save_note
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.messages.reported import TrustReport
from fleet_shared.names import DeviceId, Digest
from tests.kit.device_edges import FakeClock


def enrolled(state: Path) -> StatePaths:
    paths = StatePaths(state)
    paths.identity.mkdir()
    save_identity(
        paths.identity,
        Identity(
            device=DeviceId("pi-1"), controller_url="http://controller", metadata_path="/m",
            targets_path="/t", topic_root="fleet/v1", broker=BrokerAddress(host="broker", port=1883),
        ),
    )  # fmt: skip
    return paths


def test_a_device_that_was_only_enrolled(tmp_path: Path) -> None:
    enrolled(tmp_path)
    assert describe_status(load_status(tmp_path)).splitlines() == [
        "device    pi-1 at http://controller",
        "agent     does not run",
        "active    none",
        "previous  none",
        "update    none yet",
        "link      was never connected",
        "outbox    0 rows wait for the controller",
    ]


def test_what_cannot_be_read_is_not_told_as_nothing(tmp_path: Path) -> None:
    """A damaged outbox has no "0 rows", damaged pointers are no "none", a damaged record no "none yet"."""
    paths = enrolled(tmp_path)
    paths.pointers.write_text("{")
    paths.record.write_text("{")
    paths.outbox.write_text("not a database, but long enough to be taken for one " * 100)
    lines = describe_status(load_status(tmp_path)).splitlines()
    for name in ("active", "previous", "update", "outbox"):
        assert f"{name:<9} cannot be read" in lines
    said = [line for line in lines if line.startswith("damaged")]
    assert [
        any(file.name in line for line in said) for file in (paths.pointers, paths.record, paths.outbox)
    ] == [True] * 3
    assert "fleet-agent doctor" in lines[-1]


def test_an_outbox_lies_in_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "50% of #1?"
    folder.mkdir()
    outbox = Outbox(folder / "outbox.db", "s")
    outbox.append(event_row(FakeClock().now(), "one"))
    assert load_outbox(folder / "outbox.db").rows == 1
    outbox.close()
    assert load_outbox(folder / "outbox.db").rows == 1
    with closing(sqlite3.connect(folder / "outbox.db")) as db:
        assert db.execute("SELECT count(*) FROM row").fetchone() == (1,)


def test_the_link(tmp_path: Path) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    note = LinkNote(online=True, reason="", boot_id=boot, boot_ms=0, wall_ms=None)
    save_link_note(tmp_path / "link.json", note)
    assert describe_link(note, running=True).startswith("is connected for ")
    assert describe_link(note, running=False) == "was connected when the agent last ran"
    away = msgspec.structs.replace(note, online=False, reason="no route")
    assert describe_link(away, running=True).startswith("is away for ")
    assert describe_link(away, running=True).endswith(": no route")
    assert not describe_link(away, running=True, why=False).endswith("no route")


def test_what_a_device_believes_is_told(tmp_path: Path) -> None:
    enrolled(tmp_path)
    file = tmp_path / "trust" / "report.json"
    file.parent.mkdir()
    day_ms = 86_400_000
    report = TrustReport(authorities=(Digest("a" * 64),), certificate_expires_ms=20_000 * day_ms)
    save_note(file, TrustNote(report=report))
    lines = describe_status(load_status(tmp_path)).splitlines()
    assert "identity  certificate until 2024-10-04; 1 authority known" in lines
    assert "trust     no releases seen yet" in lines
    known = msgspec.structs.replace(
        report, root_version=3, key_epoch=2, metadata_expires_ms=20_001 * day_ms, authorities=()
    )
    save_note(file, TrustNote(report=known))
    lines = describe_status(load_status(tmp_path)).splitlines()
    assert "identity  certificate until 2024-10-04" in lines
    assert "trust     release root 3, assignment key 2, metadata until 2024-10-05" in lines
    file.write_bytes(b"\xff")
    assert "trust" not in describe_status(load_status(tmp_path))
