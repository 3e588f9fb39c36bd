"""Blobs in a folder, two levels deep by the first digits of their digest."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from fleet_cloud.errors import Invalid, NotFound, Unavailable
from fleet_cloud.services.ports import BlobInfo
from fleet_shared.durable import write_durably
from fleet_shared.names import Digest, parse_digest

PART_BYTES: Final = 256 * 1024
ABANDONED_AFTER_S: Final = 24 * 3600.0
"""A temporary file as old as this belongs to a writer that was killed."""


class FilesystemBlobs:
    """Implements `BlobStore`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
        except OSError as exc:
            raise _unreachable(folder, exc) from exc

    def put(self, sha256: Digest, parts: Iterator[bytes]) -> BlobInfo:
        path = self._path(sha256)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, check_digest(sha256, parts))
            return BlobInfo(sha256, path.stat().st_size)
        except OSError as exc:
            raise _unreachable(self._folder, exc) from exc

    def info(self, sha256: Digest) -> BlobInfo | None:
        try:
            return BlobInfo(sha256, self._path(sha256).stat().st_size)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise _unreachable(self._folder, exc) from exc

    def read(self, sha256: Digest, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        try:
            with self._path(sha256).open("rb") as file:
                file.seek(start)
                left = None if end is None else end - start
                while part := file.read(PART_BYTES if left is None else min(PART_BYTES, left)):
                    left = None if left is None else left - len(part)
                    yield part
        except FileNotFoundError as exc:
            raise unknown_blob(sha256) from exc
        except OSError as exc:
            raise _unreachable(self._folder, exc) from exc

    def presigned_url(self, sha256: Digest, life_s: int) -> str | None:  # noqa: ARG002 - the port's form
        return None

    def _path(self, sha256: Digest) -> Path:
        """Raise `InvalidName` for what is no digest: it could name any file."""
        digest = parse_digest(sha256)
        return self._folder / digest[:2] / digest[2:4] / digest

    def _remove_abandoned(self) -> None:
        before = time.time() - ABANDONED_AFTER_S
        for file in self._folder.glob("*/*/.*.tmp"):
            with suppress(FileNotFoundError):  # its writer lives after all, and has just ended
                if file.stat().st_mtime < before:
                    file.unlink()


def check_digest(sha256: Digest, parts: Iterator[bytes]) -> Iterator[bytes]:
    """Pass ``parts`` through; raise `Invalid` (``blob.digest``) at the end if they differ."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        yield part
    if digest.hexdigest() != sha256:
        raise Invalid(
            f"the bytes sent have the digest {digest.hexdigest()}, announced was {sha256}",
            hint="send the blob again under its own sha256",
            code="blob.digest",
        )


def unknown_blob(sha256: Digest) -> NotFound:
    return NotFound(f"blob {sha256} is not in the store", hint="upload it first", code="blob.unknown")


def _unreachable(folder: Path, exc: OSError) -> Unavailable:
    return Unavailable(
        f"the blob folder {folder} cannot be used: {exc}",
        hint="check the disk and its permissions",
        code="storage.unreachable",
    )
