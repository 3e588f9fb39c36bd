"""The factory as a process of its own: start it, follow its events, end it with the command."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fleet_cloud.entrypoints.cli.connection import Connection
from fleet_cloud.errors import BuildError
from fleet_cloud.factory.events import BuildEvent, Failed, Registered, Searched, parse_event

UNEXPLAINED: Final = frozenset({"build.failed", "build.process"})
"""What only the worker's log can explain."""


def follow_build(
    arguments: Sequence[str], connection: Connection, log: Path | None = None
) -> Generator[BuildEvent]:
    """Run the build worker with ``arguments`` and yield its events up to `Registered` or `Searched`.

    Its log goes to ``log``; without one, to a temporary file that is kept only when it explains a
    failure. Raises `BuildError` with the worker's own code, message and hint.
    """
    if log is not None:
        yield from _follow(arguments, connection, log)
        return
    handle, name = tempfile.mkstemp(prefix="fleet-build-", suffix=".log")
    os.close(handle)
    keep = False
    try:
        yield from _follow(arguments, connection, Path(name))
    except BuildError as exc:
        keep = exc.code in UNEXPLAINED
        raise
    finally:
        if not keep:
            Path(name).unlink(missing_ok=True)


def _follow(arguments: Sequence[str], connection: Connection, log: Path) -> Generator[BuildEvent]:
    with running_build(arguments, connection, log) as process:
        for line in process.stdout or ():
            event = parse_event(line)
            if isinstance(event, Failed):
                hint = f"its log is {log}" if event.code in UNEXPLAINED else event.hint
                raise BuildError(event.message, code=event.code, hint=hint)
            yield event
            if isinstance(event, Registered | Searched):
                return
        process.wait()
        raise BuildError(
            f"the build process ended {_describe_end(process.returncode)} and gave no result",
            hint=f"its log is {log}",
            code="build.process",
        )


def _describe_end(returncode: int) -> str:
    if returncode == -signal.SIGKILL:
        return "by SIGKILL (is there enough memory?)"
    if returncode < 0:
        return f"by {signal.Signals(-returncode).name}"
    return f"with exit code {returncode}"


@contextmanager
def running_build(
    arguments: Sequence[str], connection: Connection, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "fleet_cloud.entrypoints.workers.build", *arguments]
    command += ["--server", connection.server, *(["--exact"] if connection.exact else [])]
    given = {"FLEET_TOKEN": connection.token, "FLEET_CA_FILE": connection.ca_file}
    environment = {**os.environ, **{key: value for key, value in given.items() if value is not None}}
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
