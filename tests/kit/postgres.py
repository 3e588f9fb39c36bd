"""A real PostgreSQL with a data folder of its own, run as the user postgres when we are root."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.ports import free_port, is_open
from tests.kit.waiting import wait_for


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Yield the URL of an empty database."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    data, port = folder / "data", free_port()
    data.mkdir(parents=True)
    as_user = [] if os.geteuid() else ["runuser", "-u", "postgres", "--"]
    if as_user:
        for path in (data, *folder.parents, folder):
            if path.is_relative_to("/tmp"):  # noqa: S108 - pytest's own folders
                path.chmod(path.stat().st_mode | 0o055)
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
    try:
        wait_for("PostgreSQL to listen", lambda: is_open(port), timeout_s=30)
        yield f"postgresql://fleet@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(30)
