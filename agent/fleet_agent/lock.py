"""One agent for each state folder: who runs holds the lock, which ends with its process."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fleet_agent.errors import SettingsError

LOCK_WITHIN_S: Final = 0.5
LOCK_EVERY_S: Final = 0.05


@contextmanager
def state_mapped(state: Path) -> Iterator[None]:
    """Whatever keeps the state folder from being used is one error."""
    try:
        yield
    except OSError as exc:
        why = (
            "is its disk full?" if exc.errno not in (errno.EACCES, errno.EPERM) else "or sudo fleet-agent ..."
        )
        raise SettingsError(
            f"the state folder {state} cannot be used: {exc}",
            hint=f"choose another: --state DIR, or FLEET_AGENT_STATE; {why}",
            code="agent.state",
        ) from exc


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    with state_mapped(state):
        lock = _open(state)
    try:
        _take(lock, state)
        yield
    finally:
        os.close(lock)


def _open(state: Path) -> int:
    """Open the lock file; on a read-only disk that has none, the folder itself."""
    try:
        return os.open(state / "lock", os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError as exc:
        if exc.errno != errno.EROFS:
            raise
        return os.open(state, os.O_RDONLY)


def _take(file: int, state: Path) -> None:
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
        lock = os.open(state / "lock", os.O_RDONLY)
    except FileNotFoundError:
        try:
            lock = os.open(state, os.O_RDONLY)  # what an agent on a read-only disk holds
        except FileNotFoundError:
            return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
