"""Rows and documents: what the repositories share."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Select, Table, insert, update

T = TypeVar("T")


def write_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def read_json(kind: type[T], text: str | None) -> T | None:
    return None if text is None else msgspec.json.decode(text, type=kind)


def upsert(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Change the row with ``key``, or insert it. The caller's transaction keeps others away."""
    where = [table.c[name] == value for name, value in key.items()]
    if values and connection.execute(update(table).where(*where).values(**values)).rowcount:
        return
    connection.execute(insert(table).values(**key, **values))


def locking(query: Select[Any]) -> Select[Any]:
    """Return ``query`` holding its rows until the end of the transaction.

    Foreign keys to them may still be written (FOR NO KEY UPDATE); SQLite has one writer anyway.
    """
    return query.with_for_update(key_share=True)
