"""A real PostgreSQL with a data folder of its own, run as the user postgres when we are root."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.kit.ports import free_port
from tests.kit.processes import end_process
from tests.kit.waiting import wait_for


@dataclass
class Postgres:
    """A server; each test takes an empty database of its own."""

    port: int
    _made: int = 0

    def create_database(self, like: str | None = None) -> str:
        """Return the URL of a new database: an empty one, or a copy of that at another URL."""
        self._made += 1
        name = f"fleet_{self._made}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            template = urlsplit(like).path[1:] if like else "template1"
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self._url(name)

    def is_ready(self) -> bool:
        """Tell whether it answers: a server listens before it is up."""
        try:
            psycopg.connect(self._url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _url(self, name: str) -> str:
        return f"postgresql://fleet@127.0.0.1:{self.port}/{name}"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """The data lie beside pytest's own folders: those are closed to other users again whenever another run
    of pytest begins on this machine, and a server that cannot reach its data ends."""
    with tempfile.TemporaryDirectory(prefix="fleet-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with _run(Path(folder) / "data") as running:
            yield running


@contextmanager
def _run(data: Path) -> Iterator[Postgres]:
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    port = free_port()
    data.mkdir()
    as_user = [] if os.geteuid() else ["runuser", "-u", "postgres", "--"]
    if as_user:
        shutil.chown(data, "postgres")
    init = [str(binaries / "initdb"), "-D", str(data), "-U", "fleet", "-A", "trust", "--no-sync"]
    subprocess.run([*as_user, *init], check=True, capture_output=True, cwd="/")
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    server = subprocess.Popen(
        [*as_user, str(binaries / "postgres"), "-D", str(data), *options, "-c", "fsync=off"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    running = Postgres(port)
    try:
        wait_for("PostgreSQL to answer", running.is_ready, timeout_s=30)
        yield running
    finally:
        end_process(server)
