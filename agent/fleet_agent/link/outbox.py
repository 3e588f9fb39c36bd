"""The durable outbox: telemetry rows on disk until the cloud says that it has them.

SQLite in WAL mode with ``synchronous=FULL``: a row is on disk when `append` returns, and only
then can it be sent. A stream is a random id drawn at each start; seq comes from AUTOINCREMENT,
so it never goes back while the file lives. Rows of older streams go out under their own stream.

Bounded: beyond the limits the oldest samples are thinned out, then the oldest events, and a
tombstone takes the place of each run of them. Outcomes of updates are kept.

The file has a name, that of its first stream: when a device comes back with another file, the cloud
knows that what the old one held is gone. A damaged file, found at a start or while the agent runs, is set
aside, and a new one takes its place at once.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

import msgspec

from fleet_agent.errors import OutboxError
from fleet_shared.durable import DiskOperation, disk_operation, remove, rename, sync_folder
from fleet_shared.errors import MessageError
from fleet_shared.limits import ROWS_PER_BATCH, TELEMETRY_BYTES
from fleet_shared.messages.telemetry import Ack, AnyRow, Sample, TelemetryBatch, Tombstone, encode_row

log = logging.getLogger(__name__)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS row (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    last INTEGER NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS row_by_stream ON row (stream, seq);
CREATE INDEX IF NOT EXISTS row_by_kind ON row (kind, seq);
CREATE TABLE IF NOT EXISTS name (only INTEGER PRIMARY KEY CHECK (only = 1), name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stream (name TEXT PRIMARY KEY, start INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS once (key TEXT PRIMARY KEY);
"""
_ENVELOPE_BYTES: Final = 512
"""What a batch needs around its rows."""

_ONCE_KEPT: Final = 1000
_CACHE_KIB: Final = 512
"""An outbox writes at its end and reads at its start: a larger cache only fills an idle device's memory."""


class Kind(str, Enum):
    """What a row is to the policy of thinning."""

    SAMPLE = "sample"
    EVENT = "event"
    OUTCOME = "outcome"
    TOMBSTONE = "tombstone"


THINNED: Final = (Kind.SAMPLE, Kind.EVENT)
"""What may be thinned out, in this order. Samples between events give no room by themselves: only
with the events beside them do their tombstones grow together."""


@dataclass(frozen=True)
class OutboxLimits:
    """When to thin. ``thin_rows``: how many rows are thinned out at once. ``age_s``: what is older is
    thinned out, as far as the device knows its age."""

    rows: int = 200_000
    bytes: int = 64 * 1024 * 1024
    thin_rows: int = 1000
    age_s: float = 30 * 24 * 3600.0


class Moment(Protocol):
    """Now, on both clocks of the device; `telemetry.clock.Stamp`."""

    @property
    def boot_id(self) -> str: ...

    @property
    def boot_ms(self) -> int: ...

    @property
    def wall_ms(self) -> int | None: ...


class Outbox:
    """All methods belong to one thread. Raises `OutboxError`: ``outbox.full`` or ``outbox.failed``
    when the disk does not take a row, ``outbox.row`` for a row that cannot be sent; nothing is
    half-written then. A file that cannot be opened (a full disk at the start of the device) is tried
    again with each use: the agent does not depend on it. ``damaged``: where a damaged file was put, until
    somebody has taken note; the rows that follow belong to a new stream, for their numbers start anew."""

    def __init__(
        self,
        path: Path,
        stream: str,
        limits: OutboxLimits | None = None,
        new_stream: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._limits = limits or OutboxLimits()
        self._new_stream = new_stream
        self.stream = stream
        self.damaged: Path | None = None
        self.name = ""
        self._path = path
        self._opened: sqlite3.Connection | None = None
        self._rows = self._bytes = 0
        try:
            self._open()
        except OutboxError as exc:
            log.error("the outbox cannot be opened, and is tried again: %s", exc.message)

    def close(self) -> None:
        db, self._opened = self._opened, None
        if db is not None:
            try:
                db.close()
            except sqlite3.Error as exc:
                log.warning("the outbox does not close as it should: %s", exc)

    @property
    def _db(self) -> sqlite3.Connection:
        return self._open() if self._opened is None else self._opened

    def _open(self) -> sqlite3.Connection:
        """Return the database, made or set aside where necessary."""
        with _mapped():
            try:
                db = _connect(self._path)
            except sqlite3.DatabaseError as exc:
                self._set_aside(exc)
                db = _connect(self._path)
            try:
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    db.execute("INSERT OR IGNORE INTO name VALUES (1, ?)", (self.stream,))
                    db.execute("DELETE FROM stream WHERE name NOT IN (SELECT stream FROM row)")
                    (self.name,) = db.execute("SELECT name FROM name").fetchone()
                    self._rows, self._bytes = _measure(db, "FROM row", ())
            except sqlite3.Error:
                db.close()
                raise
            self._opened = db
            return db

    @property
    def pending(self) -> int:
        """Rows that wait for an acknowledgement."""
        return self._rows

    def append(self, *rows: AnyRow) -> None:
        """Store ``rows`` in one transaction; their ``seq`` is assigned here."""
        with self._transaction():
            added = [self._insert(row, _kind(row)) for row in rows]
        self._added(added)

    def append_once(self, key: str, row: AnyRow) -> bool:
        """Store ``row``, never to be thinned out, unless a row was stored under ``key`` before; tell
        whether it was."""
        with self._transaction():
            if not self._claim(key):
                return False
            added = [self._insert(row, Kind.OUTCOME)]
        self._added(added)
        return True

    def has_stored(self, key: str) -> bool:
        """Whether a row was stored under ``key``, sent since or not."""
        with self._guarded():
            return self._db.execute("SELECT 1 FROM once WHERE key = ?", (key,)).fetchone() is not None

    def streams(self) -> list[str]:
        """Streams that have rows, oldest first."""
        query = (
            "SELECT name FROM stream WHERE EXISTS (SELECT 1 FROM row WHERE row.stream = stream.name)"
            " ORDER BY start"
        )
        with self._guarded():
            return [stream for (stream,) in self._db.execute(query)]

    def load_batch(self, stream: str, after: int = 0) -> TelemetryBatch | None:
        """Return the next rows of ``stream`` with a seq above ``after``, as many as one message
        holds; none when there are none."""
        with self._guarded():
            return self._load_batch(stream, after)

    def apply_ack(self, ack: Ack) -> int:
        """Forget the rows that ``ack`` covers; return how many they were."""
        covered = "FROM row WHERE stream = ? AND seq <= ? AND last <= ?"
        key = (ack.stream, ack.upto, ack.upto)
        with self._transaction():
            removed, size = _measure(self._db, covered, key)
            self._db.execute(f"DELETE {covered}", key)
            if ack.stream != self.stream:
                self._db.execute(
                    "DELETE FROM stream WHERE name = ? AND NOT EXISTS"
                    " (SELECT 1 FROM row WHERE row.stream = stream.name)",
                    (ack.stream,),
                )
        self._rows -= removed
        self._bytes -= size
        return removed

    def _claim(self, key: str) -> bool:
        claimed = self._db.execute("INSERT OR IGNORE INTO once (key) VALUES (?)", (key,)).rowcount == 1
        if claimed:
            self._db.execute(
                "DELETE FROM once WHERE rowid <= (SELECT max(rowid) FROM once) - ?", (_ONCE_KEPT,)
            )
        return claimed

    def _insert(self, row: AnyRow, kind: Kind) -> int:
        payload = encode_row(row)
        cursor = self._db.execute(
            "INSERT INTO row (stream, last, kind, payload) VALUES (?, 0, ?, ?)",
            (self.stream, kind.value, payload),
        )
        seq = cursor.lastrowid
        self._db.execute("UPDATE row SET last = seq WHERE seq = ?", (seq,))
        self._db.execute("INSERT OR IGNORE INTO stream VALUES (?, ?)", (self.stream, seq))
        return len(payload)

    def _added(self, sizes: Sequence[int]) -> None:
        self._rows += len(sizes)
        self._bytes += sum(sizes)
        try:
            for kind in THINNED:
                if self._rows > self._limits.rows or self._bytes > self._limits.bytes:
                    self._thin(kind)
        except OutboxError as exc:  # the rows are stored: it is thinned with the next one
            log.warning("the outbox could not be thinned out: %s", exc.message)

    def _load_batch(self, stream: str, after: int) -> TelemetryBatch | None:
        (oldest,) = self._db.execute("SELECT min(seq) FROM row WHERE stream = ?", (stream,)).fetchone()
        if oldest is None:
            return None
        newest = "SELECT last FROM row WHERE stream = ? ORDER BY seq DESC LIMIT 1"
        (head,) = self._db.execute(newest, (stream,)).fetchone()
        (start,) = self._db.execute("SELECT start FROM stream WHERE name = ?", (stream,)).fetchone()
        rows: list[msgspec.Raw] = []
        room = TELEMETRY_BYTES - _ENVELOPE_BYTES
        first = last = 0
        query = "SELECT seq, last, payload FROM row WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?"
        for seq, row_last, payload in self._db.execute(query, (stream, after, ROWS_PER_BATCH)):
            raw = _stamp(payload, seq)
            room -= len(raw) + 1
            if room < 0 and rows:
                break
            rows.append(msgspec.Raw(raw))
            first, last = first or seq, row_last
        if not rows:
            return None
        return TelemetryBatch(
            stream=stream,
            start=start,
            oldest=oldest,
            head=head,
            first=first,
            last=last,
            rows=tuple(rows),
            outbox=self.name,
        )

    def _thin(self, kind: Kind) -> None:
        """Replace the oldest rows of one kind by tombstones, one for each unbroken run within a stream."""
        self._bury_all([(seq, stream) for seq, stream, _ in self._find_oldest(kind)])

    def thin_old(self, now: Moment) -> int:
        """Thin out what is older than the limit, some rows at a time; return how many went. A row of
        another boot without a wall time has no age, and waits for the other limits."""
        with self._guarded():
            old = [
                (seq, stream)
                for kind in THINNED
                for seq, stream, payload in self._find_oldest(kind)
                if _is_older(_parse_stamp(payload), now, self._limits.age_s)
            ]
        if old:
            self._bury_all(sorted(old))
        return len(old)

    def _find_oldest(self, kind: Kind) -> list[tuple[int, str, bytes]]:
        query = "SELECT seq, stream, payload FROM row WHERE kind = ? ORDER BY seq LIMIT ?"
        return self._db.execute(query, (kind.value, self._limits.thin_rows)).fetchall()

    def _bury_all(self, rows: Sequence[tuple[int, str]]) -> None:
        with self._transaction():
            change = [self._bury(run) for run in _split_runs(rows)]
        self._rows += sum(rows for rows, _ in change)
        self._bytes += sum(size for _, size in change)

    def _bury(self, run: tuple[int, int, str]) -> tuple[int, int]:
        """Replace a run, and the tombstones beside it, by one; return the change in rows and bytes."""
        first, last, stream = run
        beside = "SELECT {} FROM row WHERE kind = 'tombstone' AND stream = ? AND {} = ?"
        for (before,) in self._db.execute(beside.format("seq", "last"), (stream, first - 1)).fetchall():
            first = before
        for (after,) in self._db.execute(beside.format("last", "seq"), (stream, last + 1)).fetchall():
            last = after
        where = "FROM row WHERE seq BETWEEN ? AND ?"
        rows, size = _measure(self._db, where, (first, last))
        newest = f"SELECT payload {where} ORDER BY seq DESC LIMIT 1"
        (payload,) = self._db.execute(newest, (first, last)).fetchone()
        self._db.execute(f"DELETE {where}", (first, last))
        stamp = _parse_stamp(payload)
        tombstone = encode_row(
            Tombstone(
                seq=first, last=last, boot_id=stamp.boot_id, boot_ms=stamp.boot_ms, wall_ms=stamp.wall_ms
            )
        )
        self._db.execute(
            "INSERT INTO row (seq, stream, last, kind, payload) VALUES (?, ?, ?, 'tombstone', ?)",
            (first, stream, last, tombstone),
        )
        return 1 - rows, len(tombstone) - size

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit at the end of the block, or undo everything and raise `OutboxError`."""
        with self._guarded(), disk_operation(DiskOperation.COMMIT, self._path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Raise `OutboxError` for whatever goes wrong; a damaged file gives way to a new one, and a
        connection that the disk failed to one that has not."""
        try:
            with _mapped():
                yield
        except OutboxError as exc:
            cause = exc.__cause__
            if _is_damage(cause):
                self._replace(cause)
            elif isinstance(cause, sqlite3.OperationalError) and "I/O" in str(cause):
                self.close()
            raise

    def _replace(self, cause: BaseException | None) -> None:
        log.error("the outbox is damaged, and begins anew: %s", cause)
        self.close()
        try:
            self._begin_anew()
        except OSError as exc:
            log.error("the damaged outbox could not be set aside, and is tried again: %s", exc)

    def _set_aside(self, cause: sqlite3.DatabaseError) -> None:
        """Move a database that cannot be opened out of the way; a full disk is no damage."""
        if not _is_damage(cause):
            raise cause
        try:
            self._begin_anew()
        except OSError as exc:
            raise OutboxError(
                f"the outbox is damaged, and cannot be set aside: {exc}",
                hint="look at the device's kernel log",
                code="outbox.damaged",
            ) from exc

    def _begin_anew(self) -> None:
        """Numbers start anew with the next file: under the stream of this one, they would be taken for those
        that it gave out already. Raises `OSError`."""
        self.damaged = _move_aside(self._path)
        if self.name:
            self.stream = self._new_stream()
        self._rows = self._bytes = 0


def _measure(db: sqlite3.Connection, what: str, key: tuple[object, ...]) -> tuple[int, int]:
    """Return how many rows there are, and the bytes of their payloads."""
    query = f"SELECT count(*), coalesce(sum(length(payload)), 0) {what}"
    rows, size = db.execute(query, key).fetchone()
    return int(rows), int(size)


def _kind(row: AnyRow) -> Kind:
    return Kind.SAMPLE if isinstance(row, Sample) else Kind.EVENT


def _split_runs(rows: Sequence[tuple[int, str]]) -> list[tuple[int, int, str]]:
    """Return (first, last, stream) of each run of consecutive numbers within a stream."""
    runs: list[tuple[int, int, str]] = []
    for seq, stream in rows:
        if runs and runs[-1][1:] == (seq - 1, stream):
            runs[-1] = (runs[-1][0], seq, stream)
        else:
            runs.append((seq, seq, stream))
    return runs


class _Stamp(msgspec.Struct):
    boot_id: str = "unknown"
    boot_ms: int = 0
    wall_ms: int | None = None


def _parse_stamp(payload: bytes) -> _Stamp:
    """Return when a row was made; nothing of it for a row that does not parse any more."""
    try:
        return msgspec.json.decode(payload, type=_Stamp)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Stamp()


def _is_older(stamp: _Stamp, now: Moment, age_s: float) -> bool:
    if stamp.boot_id == now.boot_id:
        return now.boot_ms - stamp.boot_ms > age_s * 1000
    if stamp.wall_ms is None or now.wall_ms is None:
        return False
    return now.wall_ms - stamp.wall_ms > age_s * 1000


def _stamp(payload: bytes, seq: int) -> bytes:
    """Return the row with its seq: it was encoded before the database assigned one. One that does not
    parse any more is sent as such, for the dead letters: it must not hold up the others."""
    try:
        document = dict(msgspec.json.decode(payload))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError, ValueError):
        log.error("telemetry row %d is damaged", seq)
        document = {"kind": "damaged"}
    document["seq"] = seq
    return msgspec.json.encode(document)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        db.executescript(_SCHEMA)
        _check(db)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection) -> None:
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _is_damage(cause: BaseException | None) -> bool:
    """SQLite's words for a file that is malformed, or no database at all, have no class of their own."""
    return type(cause) is sqlite3.DatabaseError


def _move_aside(path: Path) -> Path:
    """One damaged file is kept, the newest. Its log goes first: it would be played into the new one."""
    aside = path.with_suffix(".damaged")
    for suffix in ("-wal", "-shm"):
        remove(path.with_name(path.name + suffix))
    rename(path, aside)
    sync_folder(path.parent)
    return aside


@contextmanager
def _mapped() -> Iterator[None]:
    """Map what goes wrong with the database or a row to `OutboxError`, in one place."""
    try:
        yield
    except sqlite3.Error as exc:
        raise _map(exc) from exc
    except (MessageError, UnicodeError, OverflowError) as exc:
        raise OutboxError(f"a telemetry row cannot be written down: {exc}", code="outbox.row") from exc


def _map(exc: sqlite3.Error) -> OutboxError:
    if "full" in str(exc):
        return OutboxError(
            "the disk is full: a telemetry row could not be stored", hint="free space", code="outbox.full"
        )
    if "readonly" in str(exc):
        return OutboxError(
            "the disk is read-only: a telemetry row could not be stored",
            hint="look at the device's kernel log",
            code="outbox.readonly",
        )
    if _is_damage(exc):
        return OutboxError(
            f"the outbox is damaged: {exc}", hint="it is set aside and begun anew", code="outbox.damaged"
        )
    return OutboxError(f"the outbox cannot be written: {exc}", hint="check the disk of the state folder")
