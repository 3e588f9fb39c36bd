"""The audit log: every change, in a chain of hashes that one changed byte breaks.

The hash of an entry is the sha256 over the hash of the entry before it and its own fields, each with its
length before it, so that no two entries are hashed over the same bytes.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Final

from fleet_shared.names import Digest

GENESIS: Final = Digest("0" * 64)
"""What the first entry follows."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """``before`` and ``after``: what was changed, as JSON, none where there is nothing to show. Secrets
    are never in it. ``seq`` counts from 1 without a hole."""

    seq: int
    at_ms: int
    actor: str
    origin: str
    action: str
    subject: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Chained:
    entry: AuditEntry
    hash: Digest


@dataclass(frozen=True, slots=True)
class Break:
    """The first entry that is not what was written, and why."""

    seq: int
    why: str


def hash_entry(previous: Digest, entry: AuditEntry) -> Digest:
    digest = hashlib.sha256(previous.encode())
    for field in fields(entry):
        value = getattr(entry, field.name)
        raw = b"" if value is None else str(value).encode()
        digest.update(f"{'-' if value is None else len(raw)}:".encode() + raw)
    return Digest(digest.hexdigest())


def find_break(chain: Iterable[Chained], previous: Digest = GENESIS, seq: int = 0) -> Break | None:
    """Return where a chain that goes on from ``previous``, the hash of entry ``seq``, is broken."""
    for link in chain:
        seq += 1
        if link.entry.seq != seq:
            return Break(seq, f"entry {seq} is missing: {link.entry.seq} comes next")
        if hash_entry(previous, link.entry) != link.hash:
            return Break(seq, f"entry {seq} is not what was written, or the one before it is not")
        previous = link.hash
    return None


def find_change(chain: Sequence[Chained], head: str, seq: int) -> Break | None:
    """Return a break unless entry ``seq`` has the hash ``head``, as it had at an earlier look. ``chain``
    has no hole and begins at 1."""
    if len(chain) < seq:
        return Break(seq, f"the log ends at entry {len(chain)}: it was longer")
    if chain[seq - 1].hash != head:
        return Break(seq, f"entry {seq} has another hash than before: the log was written anew")
    return None
