"""What Fleet writes to a disk, in operations that have names: files that survive a power cut whole or
not at all.

Each operation is told before and after it happens as an audit event of Python (`sys.audit`):
``fleet.disk`` with (operation, "before" or "after", path, target of a rename or ""). Nobody listens in
production, where that costs next to nothing; whoever listens sees the order of everything that matters,
can end the process at any of it, or rebuild what a power cut would have left.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import IO, Final

DISK_EVENT: Final = "fleet.disk"


class DiskOperation(str, Enum):
    CREATE = "create"
    """An empty file; one that was there is emptied."""
    WRITE = "write"
    SYNC = "fsync"
    RENAME = "rename"
    SYNC_FOLDER = "fsync-folder"
    REMOVE = "remove"
    MAKE_FOLDER = "mkdir"
    REMOVE_FOLDER = "rmdir"
    COMMIT = "commit"
    """A transaction of a database."""


@contextmanager
def disk_operation(operation: DiskOperation, path: Path, target: Path | None = None) -> Iterator[None]:
    """Tell of what the block does to ``path``; "after" is told only when it went well."""
    names = (str(path), "" if target is None else str(target))
    sys.audit(DISK_EVENT, operation.value, "before", *names)
    yield
    sys.audit(DISK_EVENT, operation.value, "after", *names)


def write_durably(path: Path, content: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``content``: temporary file beside it, fsync, rename, fsync of the folder.

    A reader sees the old file or the new one, never a part. Raises `OSError` (a full disk, say)
    with the old file untouched and the temporary one removed.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        write_synced(temporary, content, mode=mode)
        rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_synced(path: Path, content: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Write a file that is not there yet, and sync what is in it; its name is durable when its folder
    is synced. Raises `OSError`, with a part of it left."""
    with disk_operation(DiskOperation.CREATE, path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb", buffering=0) as file:
        for part in (content,) if isinstance(content, bytes) else content:
            append(file, path, part)
        os.fchmod(file.fileno(), mode)
        with disk_operation(DiskOperation.SYNC, path):
            os.fsync(file.fileno())


def create(path: Path, content: bytes = b"") -> None:
    """Write a file anew, empty or with a little ``content``, with no promise about a power cut."""
    with disk_operation(DiskOperation.CREATE, path), path.open("wb", buffering=0) as file:
        file.write(content)


def append(file: IO[bytes], path: Path, content: bytes) -> None:
    """Write all of ``content`` to the unbuffered ``file``, which is that of ``path``."""
    with disk_operation(DiskOperation.WRITE, path):
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]


def sync_file(path: Path) -> None:
    """Make what was written to ``path`` durable."""
    with path.open("rb") as file, disk_operation(DiskOperation.SYNC, path):
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames and removals inside ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with disk_operation(DiskOperation.SYNC_FOLDER, folder):
            os.fsync(handle)
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> None:
    with disk_operation(DiskOperation.RENAME, source, target):
        source.replace(target)


def make_folder(folder: Path, *, parents: bool = False) -> None:
    """Make ``folder`` unless it is there."""
    if not folder.is_dir():
        with disk_operation(DiskOperation.MAKE_FOLDER, folder):
            folder.mkdir(parents=parents, exist_ok=True)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    if path.exists() or path.is_symlink():
        with disk_operation(DiskOperation.REMOVE, path):
            path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove an empty folder; raise `OSError` when it is not."""
    with disk_operation(DiskOperation.REMOVE_FOLDER, folder):
        folder.rmdir()


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder with all that is in it. What the disk refuses stays: it costs room, no
    more, and the next occasion takes it."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            for entry in list(path.iterdir()):
                remove_tree(entry)
            remove_folder(path)
        else:
            remove(path)
