"""The state of this device as its folder tells it, whether the agent runs or not."""

import sqlite3
from pathlib import Path

import msgspec

from fleet_agent.identity import load_identity
from fleet_agent.paths import StatePaths
from fleet_agent.slots import Slots
from fleet_agent.update.record import RecordFile
from fleet_shared.messages.reported import Failure, Running


class Status(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    controller: str
    active: Running | None
    previous: Running | None
    update: str | None
    failure: Failure | None
    outbox_rows: int


def load_status(state: Path) -> Status:
    """Raises `SettingsError` when the device is not enrolled, `SlotError` for damaged pointers."""
    paths = StatePaths(state)
    identity = load_identity(paths.identity)
    pointers = Slots(paths.slots, paths.pointers).load_pointers()
    try:
        record = RecordFile(paths.record).load()
    except ValueError:
        record = None
    return Status(
        device=identity.device,
        controller=identity.controller_url,
        active=pointers.active,
        previous=pointers.previous,
        update=record.state.value if record else None,
        failure=record.failure if record else None,
        outbox_rows=_count_rows(paths.outbox),
    )


def describe_status(status: Status) -> str:
    lines = [
        f"device    {status.device} at {status.controller}",
        f"active    {_name(status.active)}",
        f"previous  {_name(status.previous)}",
        f"update    {status.update or 'none yet'}",
    ]
    if status.failure:
        lines += [f"          {status.failure.code}: {status.failure.message}"]
        lines += [f"          hint: {status.failure.hint}"] if status.failure.hint else []
    return "\n".join([*lines, f"outbox    {status.outbox_rows} rows wait for the controller"])


def _name(running: Running | None) -> str:
    if running is None:
        return "none"
    return f"{running.model}:{running.version} ({running.variant}) on {running.runtime}"


def _count_rows(outbox: Path) -> int:
    if not outbox.exists():
        return 0
    db = sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT count(*) FROM row").fetchone()[0])
    except sqlite3.Error:
        return 0
    finally:
        db.close()
