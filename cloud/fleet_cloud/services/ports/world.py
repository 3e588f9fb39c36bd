"""Time, chance and files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from fleet_shared.names import Digest


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall time in ms since 1970."""


class Ids(Protocol):
    def new_id(self) -> str:
        """A random id of 128 bits, safe in a URL, a topic and a file name."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    sha256: Digest
    size_bytes: int


class BlobStore(Protocol):
    """Immutable bytes by digest: file system or S3."""

    def put(self, sha256: Digest, parts: Iterator[bytes]) -> BlobInfo:
        """Store a blob whole or not at all; raise `Invalid` (``blob.digest``) when the bytes
        have another digest. Storing it again is harmless."""

    def info(self, sha256: Digest) -> BlobInfo | None: ...

    def read(self, sha256: Digest, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield bytes [start, end) in parts; raise `NotFound`."""

    def presigned_url(self, sha256: Digest, life_s: int) -> str | None:
        """Return a URL that the store itself serves, or none when the controller must."""


class ReleaseFiles(Protocol):
    """The release repository as it is served: signed, and public."""

    def read(self, path: str, offset: int, length: int) -> tuple[bytes, int] | None:
        """Return bytes [offset, offset + length) of a file, fewer at its end, and how long it is; none when
        there is no such file. Raises `Unavailable`."""
