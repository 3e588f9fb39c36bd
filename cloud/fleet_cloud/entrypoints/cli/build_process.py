"""The factory as a process of its own: start it, follow its events, end it with the command."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fleet_cloud.entrypoints.cli.connection import Connection
from fleet_cloud.entrypoints.workers.build_events import BuildEvent, Failed, Registered, parse_event
from fleet_cloud.errors import BuildError


def follow_build(
    arguments: Sequence[str], connection: Connection, log: Path | None = None
) -> Iterator[BuildEvent]:
    """Run the build worker with ``arguments`` and yield its events up to `Registered`.

    Its log goes to ``log``, or to standard error. Raises `BuildError` with the worker's own code,
    message and hint.
    """
    with _worker([*arguments, "--server", connection.server], connection.token, log) as process:
        for line in process.stdout or ():
            event = parse_event(line)
            if isinstance(event, Failed):
                raise BuildError(event.message, code=event.code, hint=event.hint)
            yield event
            if isinstance(event, Registered):
                return
        process.wait()
        raise BuildError(
            f"the build process ended with exit code {process.returncode} and no result",
            hint="its log is above; is the extra installed? pip install 'fleet-cloud[factory]'",
            code="build.process",
        )


@contextmanager
def _worker(
    arguments: Sequence[str], token: str | None, log: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "fleet_cloud.entrypoints.workers.build", *arguments]
    environment = dict(os.environ) if token is None else {**os.environ, "FLEET_TOKEN": token}
    with (log or Path(os.devnull)).open("ab") as errors:
        stderr = None if log is None else errors
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
