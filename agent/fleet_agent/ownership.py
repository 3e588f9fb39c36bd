"""Whose files are these: what root makes in the state of a service belongs to the service's user.

`sudo fleet-agent enrol` is what people type; an agent that may not read its own key would never start.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def left_to_owner(state: Path) -> Iterator[None]:
    """Whatever root makes below ``state`` within the block belongs to the folder's owner afterwards, also
    when the block fails. Does nothing for other users, and in a folder of root's own."""
    try:
        yield
    finally:
        if os.geteuid() == 0:
            with suppress(FileNotFoundError):
                _give_away(state)


def _give_away(state: Path) -> None:
    owner = state.stat()
    if owner.st_uid == 0:
        return
    for folder, folders, files in os.walk(state):
        for name in (*folders, *files):
            path = Path(folder, name)
            with suppress(FileNotFoundError):  # the agent may be at work
                if path.lstat().st_uid == 0:
                    os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
