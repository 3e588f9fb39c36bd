"""Blobs in a folder, two levels deep by the first digits of their digest."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fleet_cloud.errors import Invalid, NotFound, Unavailable
from fleet_cloud.services.ports import BlobInfo
from fleet_shared.durable import write_durably
from fleet_shared.names import Digest

PART_BYTES: Final = 256 * 1024


class FilesystemBlobs:
    """Implements `BlobStore`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
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

    def read(self, sha256: Digest, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        try:
            file = self._path(sha256).open("rb")
        except FileNotFoundError as exc:
            raise unknown_blob(sha256) from exc
        with file:
            file.seek(start)
            left = None if end is None else end - start
            while part := file.read(PART_BYTES if left is None else min(PART_BYTES, left)):
                left = None if left is None else left - len(part)
                yield part

    def presigned_url(self, sha256: Digest, life_s: int) -> str | None:  # noqa: ARG002 - the port's form
        return None

    def _path(self, sha256: Digest) -> Path:
        return self._folder / sha256[:2] / sha256[2:4] / sha256


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
    return NotFound(f"blob {sha256} is not in the store", code="blob.unknown")


def _unreachable(folder: Path, exc: OSError) -> Unavailable:
    return Unavailable(
        f"the blob folder {folder} cannot be used: {exc}",
        hint="check the disk and its permissions",
        code="storage.unreachable",
    )
