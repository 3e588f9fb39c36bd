"""A file's content in memory, verified, under a path that nobody can write to: what was verified is what is
loaded, whatever becomes of the file on the disk in between.

An interpreter takes a path and maps it. The path of a sealed memory file (memfd_create(2)) is good for that,
and costs no second copy: the model is resident once, only not to be dropped by the kernel. Where Python has
no such files, a temporary file without a name is the next best.
"""

import fcntl
import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fleet_agent.errors import WorkerError
from fleet_shared.manifest import BlobRef

READ_BYTES: Final = 1024 * 1024
SWAPPED: Final = "the disk is damaged, or somebody writes to the agent's state; push the version again"


class SealedFile:
    """``path`` holds while this object does."""

    def __init__(self, file: Path, blob: BlobRef) -> None:
        """Raises `WorkerError` (``worker.slot``) for other bytes than ``blob`` says, and `OSError`."""
        fd = _open(file.name)
        weakref.finalize(self, os.close, fd)
        with os.fdopen(os.dup(fd), "wb", buffering=0) as copy:
            for part in read_verified(file, blob):
                copy.write(part)
        _seal(fd)
        self.path = Path(f"/proc/self/fd/{fd}")


def read_verified(file: Path, blob: BlobRef) -> Iterator[bytes]:
    """Yield a file in parts; raise `WorkerError` (``worker.slot``) at its end, or as soon as it is too long,
    when it is not what ``blob`` says."""
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as opened:
        while size <= blob.size_bytes and (part := opened.read(READ_BYTES)):
            size += len(part)
            digest.update(part)
            yield part
    if size != blob.size_bytes or digest.hexdigest() != blob.sha256:
        raise WorkerError(
            f"{file} holds other bytes than were released and verified",
            hint=SWAPPED,
            code="worker.slot",
        )


def _open(name: str) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as unnamed:
        return os.dup(unnamed.fileno())


def _seal(fd: int) -> None:
    if hasattr(os, "memfd_create"):
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
