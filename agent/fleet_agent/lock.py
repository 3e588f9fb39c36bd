"""One agent for each state folder: who runs holds the lock, which ends with its process."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from fleet_agent.errors import SettingsError

LOCK_WITHIN_S: Final = 0.5
LOCK_EVERY_S: Final = 0.05


@contextmanager
def state_mapped(state: Path) -> Iterator[None]:
    """Whatever keeps the state folder from being used is one error."""
    try:
        yield
    except OSError as exc:
        raise SettingsError(
            f"the state folder {state} cannot be used: {exc}",
            hint="choose another: --state DIR, or FLEET_AGENT_STATE; is its disk full?",
            code="agent.state",
        ) from exc


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    with state_mapped(state):
        lock = (state / "lock").open("w")
    with lock as file:
        _take(file, state)
        yield


def _take(file: IO[str], state: Path) -> None:
    """Take the lock. `is_running` holds it for an instant, so one refusal says nothing yet."""
    deadline_s = time.monotonic() + LOCK_WITHIN_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if time.monotonic() < deadline_s:
                time.sleep(LOCK_EVERY_S)
                continue
            raise SettingsError(
                f"another agent runs on {state}",
                hint="stop that one first, or choose another --state",
                code="agent.running",
            ) from exc
        return


def is_running(state: Path) -> bool:
    """Whether an agent holds the lock of ``state``. Makes no file. Raises `OSError`."""
    try:
        lock = (state / "lock").open("r")
    except FileNotFoundError:
        return False
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
