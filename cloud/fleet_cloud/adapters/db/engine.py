"""Engines for SQLite (WAL) and PostgreSQL (psycopg 3), and the schema brought up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    SQLAlchemyError,
)

from fleet_cloud.addresses import check_database
from fleet_cloud.errors import Conflict, Invalid, SettingsError, Unavailable
from fleet_cloud.masking import mask_url

MIGRATIONS: Final = Path(__file__).with_name("migrations")
BUSY_TIMEOUT_S: Final = 15
_MIGRATION_LOCK: Final = 0x666C656574


def open_engine(url: str) -> Engine:
    """Return the engine for ``url``; raise `SettingsError` (``database.url``)."""
    check_database(url)
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres", "postgres+psycopg"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        return _create_engine(parsed)
    except (ArgumentError, ValueError) as exc:  # whose text repeats the URL with its password
        raise SettingsError(
            f"the database URL {mask_url(url)!r} does not parse",
            hint="sqlite:///path/fleet.db or postgresql://user:password@host/name; "
            "percent-encode / ? # @ [ ] in user and password",
            code="database.url",
        ) from exc


def _create_engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_immediate)
        return engine
    return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})


def migrate(engine: Engine) -> None:
    """Bring the schema up to date; two processes that start at once take turns."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with mapped_errors(engine), engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def mapped_errors(engine: Engine) -> Iterator[None]:
    """Map the database's errors to ours, in one place."""
    try:
        yield
    except IntegrityError as exc:
        raise Conflict(f"the database refuses a duplicate: {exc.orig}", code="database.conflict") from exc
    except (DataError, OverflowError) as exc:  # the latter is how SQLite's driver says it
        raise Invalid(f"the database cannot hold a value: {exc}", code="database.data") from exc
    except (OperationalError, DBAPIError) as exc:
        raise Unavailable(
            f"the database {mask_url(str(engine.url))} cannot be used: {exc.orig}",
            hint="is it running and reachable, and are user and password right?",
            code="database.unreachable",
        ) from exc
    except SQLAlchemyError as exc:  # no free connection, say: it may pass
        raise Unavailable(
            f"the database {mask_url(str(engine.url))} does not answer: {exc}",
            hint="is it overloaded, or does something hold its connections?",
            code="database.failed",
        ) from exc


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # this module begins transactions itself
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def reading(connection: Connection) -> Connection:
    """Return ``connection`` for a transaction that only reads: it takes no lock that a writer needs."""
    return connection.execution_options(fleet_read_only=True, postgresql_readonly=True)


def _begin_immediate(connection: Connection) -> None:
    """Take the write lock at once: a deferred transaction could fail half-way with "busy"."""
    read_only = connection.get_execution_options().get("fleet_read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
