"""API tokens in both databases: shown once, kept as a hash, ended by time or by hand."""

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
from sqlalchemy import text

from fleet_cloud.adapters.db.engine import open_engine
from fleet_cloud.bootstrap.system import RandomIds
from fleet_cloud.domain.people import Role
from fleet_cloud.errors import Forbidden, Invalid, NotFound, Unavailable
from fleet_cloud.services.ports import Transaction, UnitOfWork
from fleet_cloud.services.tokens import USE_NOTED_MS, Tokens
from tests.kit.parts import Counting, Parts
from tests.kit.people import ADMIN


@pytest.fixture
def tokens(parts: Parts) -> Tokens:
    return Tokens(parts.uow, parts.clock, Counting())


def test_a_secret_is_found_until_its_end_and_not_a_moment_longer(parts: Parts, tokens: Tokens) -> None:
    token, secret = tokens.create("ann", Role.OPERATOR, 60, ADMIN)
    assert tokens.find(secret) is not None
    assert tokens.find(f"{secret}x") is None
    parts.clock.at_ms = token.created_ms + 59_999
    assert tokens.find(secret) is not None
    parts.clock.at_ms += 1
    with pytest.raises(Forbidden, match="expired") as caught:
        tokens.find(secret)
    assert caught.value.code == "api.token.ended"


def test_a_revoked_token_stays_revoked(parts: Parts, tokens: Tokens) -> None:
    token, secret = tokens.create("ann", Role.ADMIN, None, ADMIN)
    ended = tokens.revoke("ann", ADMIN)
    parts.clock.at_ms += 10
    assert tokens.revoke(token.id, ADMIN).revoked_ms == ended.revoked_ms
    with pytest.raises(Forbidden, match="revoked"):
        tokens.find(secret)
    with pytest.raises(NotFound):
        tokens.revoke("bob", ADMIN)


def test_a_name_is_free_again_once_its_token_has_ended(parts: Parts, tokens: Tokens) -> None:
    tokens.create("ann", Role.VIEWER, 60, ADMIN)
    with pytest.raises(Invalid) as caught:
        tokens.create("ann", Role.VIEWER, 60, ADMIN)
    assert caught.value.code == "token.exists"
    parts.clock.at_ms += 60_000
    again, _ = tokens.create("ann", Role.VIEWER, 60, ADMIN)
    assert tokens.revoke("ann", ADMIN).id == again.id
    tokens.create("ann", Role.VIEWER, None, ADMIN)


def test_the_one_that_counts_is_ended_also_after_the_clock_was_set_back(parts: Parts, tokens: Tokens) -> None:
    parts.clock.at_ms += 10_000
    tokens.create("ann", Role.ADMIN, None, ADMIN)
    tokens.revoke("ann", ADMIN)
    parts.clock.at_ms -= 5_000
    alive, secret = tokens.create("ann", Role.ADMIN, None, ADMIN)
    assert tokens.revoke("ann", ADMIN).id == alive.id
    with pytest.raises(Forbidden, match="revoked"):
        tokens.find(secret)


def test_a_database_that_takes_no_change_refuses_no_token(parts: Parts, tokens: Tokens) -> None:
    _, secret = tokens.create("ann", Role.VIEWER, None, ADMIN)
    full = Tokens(ReadOnly(parts.uow), parts.clock, Counting())
    found = full.find(secret)
    assert found is not None
    assert found.used_ms is None


@dataclass
class ReadOnly:
    """A database on a full disk."""

    uow: UnitOfWork

    def begin(self) -> AbstractContextManager[Transaction]:
        raise Unavailable("the disk is full", code="database.unreachable")

    def read(self) -> AbstractContextManager[Transaction]:
        return self.uow.read()


def test_of_two_of_the_same_name_at_once_one_is_refused(parts: Parts) -> None:
    results: list[str] = []

    def create() -> None:
        try:
            Tokens(parts.uow, parts.clock, RandomIds()).create("ann", Role.VIEWER, None, ADMIN)
            results.append("made")
        except Invalid as exc:
            results.append(exc.code)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == ["made", *["token.exists"] * 3]


@pytest.mark.parametrize("name", ["", "a b", "oidc:ann", "admin:local", "ä", "x" * 65, "-x", "a\n"])
def test_nobody_takes_a_name_that_stands_for_others(tokens: Tokens, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        tokens.create(name, Role.VIEWER, None, ADMIN)
    assert caught.value.code == "token.name"


def test_the_database_never_has_the_secret(url: str, tokens: Tokens) -> None:
    _, secret = tokens.create("ann", Role.VIEWER, None, ADMIN)
    engine = open_engine(url)
    with engine.connect() as connection:
        queries = ("SELECT * FROM api_token", "SELECT * FROM audit")
        rows = [str(row) for query in queries for row in connection.execute(text(query))]
    engine.dispose()
    assert rows
    assert not any(secret in row for row in rows)
    assert not any(tokens.all()[0].secret_sha256 in row for row in rows if "token.create" in row)


def test_the_time_of_use_is_noted_now_and_then(parts: Parts, tokens: Tokens) -> None:
    _, secret = tokens.create("ann", Role.VIEWER, None, ADMIN)
    first = parts.clock.at_ms
    for wait_ms, noted in ((0, first), (USE_NOTED_MS, first), (1, first + USE_NOTED_MS + 1)):
        parts.clock.at_ms += wait_ms
        tokens.find(secret)
        assert tokens.all()[0].used_ms == noted
