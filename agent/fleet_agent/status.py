"""The state of this device as its folder tells it, whether the agent runs or not. Nothing is made or
changed."""

import sqlite3
import time
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import msgspec

from fleet_agent.errors import SettingsError, SlotError
from fleet_agent.identity import load_identity
from fleet_agent.link.note import LinkNote, load_note
from fleet_agent.lock import is_running
from fleet_agent.paths import StatePaths
from fleet_agent.slots import Pointers
from fleet_agent.trust_report import load_note as load_trust_note
from fleet_agent.update.record import RecordFile, UpdateRecord
from fleet_shared.messages.reported import Failure, Running, TrustReport

UNREADABLE: Final = "cannot be read"


class OutboxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``oldest_boot``: boot id and boot clock (ms) of the oldest row. ``trouble``: why it cannot be read."""

    rows: int = 0
    oldest_boot: tuple[str, int] | None = None
    oldest_wall_ms: int | None = None
    trouble: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    controller: str
    active: Running | None
    previous: Running | None
    update: str | None
    failure: Failure | None
    outbox_rows: int
    running: bool = False
    link: LinkNote | None = None
    update_model: str = ""
    update_age_s: float | None = None
    """Time since the last step of the update, where it was in this boot."""
    trust: TrustReport = TrustReport()
    """What this device believes, as it noted last."""
    damaged: dict[str, str] = {}
    """What cannot be read (``models``, ``update``, ``outbox``), and why: nothing is known of it."""


def load_status(state: Path) -> Status:
    """Raises `SettingsError` when the device is not enrolled or its state may not be read."""
    paths = StatePaths(state)
    damaged: dict[str, str] = {}
    try:
        identity = load_identity(paths.identity)
        try:
            pointers = load_pointers(paths)
        except SlotError as exc:
            pointers = Pointers()
            damaged["models"] = exc.message
        try:
            record = RecordFile(paths.record).load()
        except ValueError as exc:
            record = None
            damaged["update"] = str(exc)
        running = is_running(state)
    except PermissionError as exc:
        raise SettingsError(
            f"{exc.filename or state} may not be read by this user",
            hint="run it as root or as the user of the agent: sudo fleet-agent ...",
            code="agent.permission",
        ) from exc
    outbox = load_outbox(paths.outbox)
    if outbox.trouble:
        damaged["outbox"] = f"{paths.outbox}: {outbox.trouble}"
    return Status(
        device=identity.device,
        controller=identity.controller_url,
        active=pointers.active,
        previous=pointers.previous,
        update=record.state.value if record else None,
        failure=record.failure if record else None,
        outbox_rows=outbox.rows,
        running=running,
        link=load_note(paths.link),
        update_model=f"{record.entry.model}:{record.entry.version}" if record else "",
        update_age_s=_age_s(record.boot_id, record.saved_ms) if record else None,
        trust=load_trust_note(paths.trust_report).report,
        damaged=damaged,
    )


def load_pointers(paths: StatePaths) -> Pointers:
    """Return which models are installed. Raises `SlotError` for a damaged file, `PermissionError`."""
    try:
        return msgspec.json.decode(paths.pointers.read_bytes(), type=Pointers)
    except FileNotFoundError:
        return Pointers()
    except PermissionError:
        raise
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise SlotError(f"{paths.pointers} does not parse: {exc}", code="slot.pointers") from exc


def load_record(paths: StatePaths) -> UpdateRecord | None:
    """Return the newest update; none without one, or when its record is damaged."""
    try:
        return RecordFile(paths.record).load()
    except ValueError:
        return None


def load_outbox(outbox: Path) -> OutboxStatus:
    """Look into the outbox and leave no file: without the agent's own files of its write-ahead log beside
    it, it is read as it lies (SQLite would make them, under the wrong user)."""
    shared = outbox.with_name(outbox.name + "-shm").exists()
    try:
        if not outbox.exists():
            return OutboxStatus()
        uri = f"{outbox.absolute().as_uri()}?{'mode=ro' if shared else 'immutable=1'}"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            (rows,) = db.execute("SELECT count(*) FROM row").fetchone()
            oldest = db.execute("SELECT payload FROM row ORDER BY seq LIMIT 1").fetchone()
    except (OSError, sqlite3.Error) as exc:
        return OutboxStatus(trouble=str(exc))
    if oldest is None:
        return OutboxStatus(rows=int(rows))
    try:
        stamp = msgspec.json.decode(oldest[0], type=_Stamp)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        return OutboxStatus(rows=int(rows), trouble=f"the oldest row does not parse: {exc}")
    return OutboxStatus(
        rows=int(rows), oldest_boot=(stamp.boot_id, stamp.boot_ms), oldest_wall_ms=stamp.wall_ms
    )


class _Stamp(msgspec.Struct):
    boot_id: str
    boot_ms: int
    wall_ms: int | None = None


def describe_status(status: Status) -> str:
    active, previous, update = _name(status.active), _name(status.previous), _describe_update(status)
    outbox = f"{describe_waiting(status.outbox_rows)} for the controller"
    if "models" in status.damaged:
        active = previous = UNREADABLE
    lines = [
        f"device    {status.device} at {status.controller}",
        f"agent     {'runs' if status.running else 'does not run'}",
        f"active    {active}",
        f"previous  {previous}",
        f"update    {UNREADABLE if 'update' in status.damaged else update}",
    ]
    if status.failure:
        lines += [f"          {status.failure.code}: {status.failure.message}"]
        lines += [f"          hint: {status.failure.hint}"] if status.failure.hint else []
    lines += [f"link      {describe_link(status.link, running=status.running)}"]
    if status.trust != TrustReport():
        lines += [f"identity  {describe_identity(status.trust)}", f"trust     {describe_trust(status.trust)}"]
    lines += [f"outbox    {UNREADABLE if 'outbox' in status.damaged else outbox}"]
    lines += [f"damaged   {why}" for why in status.damaged.values()]
    if status.damaged:
        lines += ["          hint: the agent sets it aside at its next start; fleet-agent doctor tells more"]
    return "\n".join(lines)


def describe_link(note: LinkNote | None, *, running: bool, why: bool = True) -> str:
    """Return how the link of the agent is; ``why``: with the reason for which the broker is away."""
    if note is None:
        return "was never connected"
    age_s = _age_s(note.boot_id, note.boot_ms)
    when = "since before this boot" if age_s is None else f"for {describe_age(age_s)}"
    if not running:
        return f"{'was connected' if note.online else 'was away'} when the agent last ran"
    if note.online:
        return f"is connected {when}"
    return f"is away {when}" + (f": {note.reason}" if why else "")


def describe_identity(trust: TrustReport) -> str:
    ends, count = _date(trust.certificate_expires_ms), len(trust.authorities)
    known = f"{count} authorit{'y' if count == 1 else 'ies'} known"
    return f"certificate until {ends}; {known}" if count else f"certificate until {ends}"


def describe_trust(trust: TrustReport) -> str:
    if not trust.root_version:
        return "no releases seen yet"
    ends = _date(trust.metadata_expires_ms)
    return f"release root {trust.root_version}, assignment key {trust.key_epoch}, metadata until {ends}"


def _date(at_ms: int | None) -> str:
    if at_ms is None:
        return "an unknown day"
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).date().isoformat()


def describe_waiting(rows: int) -> str:
    return f"{rows} row waits" if rows == 1 else f"{rows} rows wait"


def describe_age(age_s: float) -> str:
    for name, seconds in (("days", 86_400), ("h", 3600), ("min", 60)):
        if age_s >= 2 * seconds:
            return f"{age_s / seconds:.0f} {name}"
    return f"{age_s:.0f} s"


def _describe_update(status: Status) -> str:
    if status.update is None:
        return "none yet"
    age = "" if status.update_age_s is None else f", {describe_age(status.update_age_s)} ago"
    return f"{status.update_model} {status.update}{age}"


def _name(running: Running | None) -> str:
    if running is None:
        return "none"
    return f"{running.model}:{running.version} ({running.variant}) on {running.runtime}"


def _age_s(boot_id: str, boot_ms: int) -> float | None:
    """How long ago a stamp of this boot was; none for one of another boot."""
    try:
        now_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - boot_ms / 1000) if boot_id == now_id else None
