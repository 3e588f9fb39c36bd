"""The durable outbox: telemetry rows on disk until the cloud says that it has them.

SQLite in WAL mode with ``synchronous=FULL``: a row is on disk when `append` returns, and only
then can it be sent. A stream is a random id drawn at each start; seq comes from AUTOINCREMENT,
so it never goes back while the file lives. Rows of older streams go out under their own stream.

Bounded: beyond the limits the oldest samples are thinned out, and a tombstone takes the place of
each run of them. Events and tombstones are kept.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from fleet_agent.errors import OutboxError
from fleet_shared.limits import ROWS_PER_BATCH, TELEMETRY_BYTES
from fleet_shared.messages.telemetry import Ack, AnyRow, Sample, TelemetryBatch, Tombstone, encode_row

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS row (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    last INTEGER NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS row_by_stream ON row (stream, seq);
CREATE TABLE IF NOT EXISTS stream (name TEXT PRIMARY KEY, start INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS once (key TEXT PRIMARY KEY);
"""
_ENVELOPE_BYTES: Final = 512
"""What a batch needs around its rows."""

_ONCE_KEPT: Final = 1000


@dataclass(frozen=True)
class OutboxLimits:
    """When to thin. ``thin_rows``: how many samples are thinned out at once."""

    rows: int = 200_000
    bytes: int = 64 * 1024 * 1024
    thin_rows: int = 1000


class Outbox:
    """All methods belong to one thread. Raises `OutboxError` (``outbox.full``, ``outbox.failed``)
    when the disk does not take a row; nothing is half-written then."""

    def __init__(self, path: Path, stream: str, limits: OutboxLimits | None = None) -> None:
        self._limits = limits or OutboxLimits()
        self.stream = stream
        self.damaged: Path | None = None
        try:
            self._db = _connect(path)
        except sqlite3.DatabaseError as exc:
            self.damaged = _set_aside(path, exc)
            self._db = _connect(path)
        self._rows, self._bytes = self._count()

    def close(self) -> None:
        self._db.close()

    @property
    def pending(self) -> int:
        """Rows that wait for an acknowledgement."""
        return self._rows

    def append(self, *rows: AnyRow) -> None:
        """Store ``rows`` in one transaction; their ``seq`` is assigned here."""
        self._write(rows, key=None)

    def append_once(self, key: str, row: AnyRow) -> bool:
        """Store ``row`` unless a row was stored under ``key`` before; tell whether it was."""
        return self._write((row,), key=key)

    def _write(self, rows: Sequence[AnyRow], key: str | None) -> bool:
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                if key is not None and not self._claim(key):
                    return False
                size = sum(self._insert(row) for row in rows)
        except sqlite3.Error as exc:
            raise _map(exc) from exc
        self._rows += len(rows)
        self._bytes += size
        if self._rows > self._limits.rows or self._bytes > self._limits.bytes:
            self._thin()
        return True

    def _claim(self, key: str) -> bool:
        claimed = self._db.execute("INSERT OR IGNORE INTO once (key) VALUES (?)", (key,)).rowcount == 1
        if claimed:
            self._db.execute(
                "DELETE FROM once WHERE rowid <= (SELECT max(rowid) FROM once) - ?", (_ONCE_KEPT,)
            )
        return claimed

    def _insert(self, row: AnyRow) -> int:
        payload = encode_row(row)
        cursor = self._db.execute(
            "INSERT INTO row (stream, last, kind, payload) VALUES (?, 0, ?, ?)",
            (self.stream, "sample" if isinstance(row, Sample) else "event", payload),
        )
        seq = cursor.lastrowid
        self._db.execute("UPDATE row SET last = seq WHERE seq = ?", (seq,))
        self._db.execute("INSERT OR IGNORE INTO stream VALUES (?, ?)", (self.stream, seq))
        return len(payload)

    def streams(self) -> list[str]:
        """Streams that have rows, oldest first."""
        query = (
            "SELECT name FROM stream WHERE EXISTS (SELECT 1 FROM row WHERE row.stream = stream.name)"
            " ORDER BY start"
        )
        return [stream for (stream,) in self._db.execute(query)]

    def load_batch(self, stream: str, after: int = 0) -> TelemetryBatch | None:
        """Return the next rows of ``stream`` with a seq above ``after``, as many as one message
        holds; none when there are none."""
        (oldest,) = self._db.execute("SELECT min(seq) FROM row WHERE stream = ?", (stream,)).fetchone()
        if oldest is None:
            return None
        newest = "SELECT last FROM row WHERE stream = ? ORDER BY seq DESC LIMIT 1"
        (head,) = self._db.execute(newest, (stream,)).fetchone()
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
        (start,) = self._db.execute("SELECT start FROM stream WHERE name = ?", (stream,)).fetchone()
        return TelemetryBatch(
            stream=stream, start=start, oldest=oldest, head=head, first=first, last=last, rows=tuple(rows)
        )

    def apply_ack(self, ack: Ack) -> int:
        """Forget the rows that ``ack`` covers; return how many they were."""
        covered = "FROM row WHERE stream = ? AND seq <= ? AND last <= ?"
        key = (ack.stream, ack.upto, ack.upto)
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                sizes = f"SELECT count(*), coalesce(sum(length(payload)), 0) {covered}"
                removed, size = self._db.execute(sizes, key).fetchone()
                self._db.execute(f"DELETE {covered}", key)
                if ack.stream != self.stream:
                    self._db.execute(
                        "DELETE FROM stream WHERE name = ? AND NOT EXISTS"
                        " (SELECT 1 FROM row WHERE row.stream = stream.name)",
                        (ack.stream,),
                    )
        except sqlite3.Error as exc:
            raise _map(exc) from exc
        self._rows -= removed
        self._bytes -= size
        return int(removed)

    def _count(self) -> tuple[int, int]:
        rows, size = self._db.execute(
            "SELECT count(*), coalesce(sum(length(payload)), 0) FROM row"
        ).fetchone()
        return rows, size

    def _thin(self) -> None:
        """Replace the oldest samples by tombstones, one for each unbroken run within a stream."""
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._thin_oldest()
        except sqlite3.Error as exc:
            raise _map(exc) from exc
        self._rows, self._bytes = self._count()

    def _thin_oldest(self) -> None:
        query = (
            "SELECT seq, last, stream, payload FROM row WHERE kind IN ('sample', 'tombstone')"
            " ORDER BY seq LIMIT ?"
        )
        run: list[tuple[int, int, str, bytes]] = []
        for row in self._db.execute(query, (self._limits.thin_rows,)).fetchall():
            if run and (row[0] != run[-1][1] + 1 or row[2] != run[-1][2]):
                self._bury(run)
                run = []
            run.append(row)
        self._bury(run)

    def _bury(self, run: list[tuple[int, int, str, bytes]]) -> None:
        if not run:
            return
        first, last, stream = run[0][0], run[-1][1], run[0][2]
        stamp = msgspec.json.decode(run[-1][3], type=_Stamp)
        tombstone = Tombstone(
            seq=first, last=last, boot_id=stamp.boot_id, boot_ms=stamp.boot_ms, wall_ms=stamp.wall_ms
        )
        self._db.execute("DELETE FROM row WHERE seq BETWEEN ? AND ?", (first, last))
        self._db.execute(
            "INSERT INTO row (seq, stream, last, kind, payload) VALUES (?, ?, ?, 'tombstone', ?)",
            (first, stream, last, encode_row(tombstone)),
        )


class _Stamp(msgspec.Struct):
    boot_id: str
    boot_ms: int
    wall_ms: int | None = None


def _stamp(payload: bytes, seq: int) -> bytes:
    """Return the row with its seq: it was encoded before the database assigned one."""
    document = msgspec.json.decode(payload)
    document["seq"] = seq
    return msgspec.json.encode(document)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
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


def _set_aside(path: Path, cause: sqlite3.DatabaseError) -> Path:
    """Move a damaged database out of the way; one of them is kept. A full disk is no damage."""
    if isinstance(cause, sqlite3.OperationalError):
        raise _map(cause) from cause
    aside = path.with_suffix(".damaged")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside


def _map(exc: sqlite3.Error) -> OutboxError:
    if "full" in str(exc):
        return OutboxError(
            "the disk is full: a telemetry row could not be stored", hint="free space", code="outbox.full"
        )
    return OutboxError(f"the outbox cannot be written: {exc}", hint="check the disk of the state folder")
