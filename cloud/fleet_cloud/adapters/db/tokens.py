"""Tokens of people and programs, by hash."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from fleet_cloud.adapters.db import tables
from fleet_cloud.domain.people import ApiToken, Role
from fleet_shared.names import Digest


class ApiTokenTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.api_token

    def add(self, token: ApiToken) -> None:
        self._connection.execute(insert(self._t).values(id=token.id, **_values(token)))

    def get(self, token: str) -> ApiToken | None:
        return self._one(self._t.c.id == token)

    def find(self, secret_sha256: Digest) -> ApiToken | None:
        return self._one(self._t.c.secret_sha256 == secret_sha256)

    def put(self, token: ApiToken) -> None:
        self._connection.execute(update(self._t).where(self._t.c.id == token.id).values(**_values(token)))

    def all(self) -> Sequence[ApiToken]:
        query = select(self._t).order_by(self._t.c.created_ms, self._t.c.id)
        return [_token(row) for row in self._connection.execute(query)]

    def _one(self, where: Any) -> ApiToken | None:
        row = self._connection.execute(select(self._t).where(where)).one_or_none()
        return None if row is None else _token(row)


def _values(token: ApiToken) -> dict[str, Any]:
    return {
        "name": token.name,
        "secret_sha256": token.secret_sha256,
        "role": token.role.value,
        "created_ms": token.created_ms,
        "expires_ms": token.expires_ms,
        "revoked_ms": token.revoked_ms,
        "used_ms": token.used_ms,
    }


def _token(row: Row[Any]) -> ApiToken:
    return ApiToken(
        id=row.id,
        name=row.name,
        secret_sha256=Digest(row.secret_sha256),
        role=Role(row.role),
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        revoked_ms=row.revoked_ms,
        used_ms=row.used_ms,
    )
