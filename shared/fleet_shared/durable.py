"""Files that survive a power cut: written whole or not at all."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_durably(path: Path, content: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``content``: temporary file beside it, fsync, rename, fsync of the folder.

    A reader sees the old file or the new one, never a part. Raises `OSError` (a full disk, say)
    with the old file untouched and the temporary one removed.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            for part in (content,) if isinstance(content, bytes) else content:
                file.write(part)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals inside ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
