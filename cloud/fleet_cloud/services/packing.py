"""Packed encodings of blobs: small ones at registration, large ones afterwards.

Level 19 packs about 3 MB a second: no request can wait for a model of a gigabyte. A version is
complete without encodings, and pushes carry the plain blob until one is there.

Not kept: that a large blob was not worth packing, or could not be stored. It is tried once more after a
restart.
"""

import hashlib
import logging
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from fleet_cloud.errors import NotFound, Unavailable
from fleet_cloud.services.ports import BlobStore, Transaction, UnitOfWork
from fleet_shared.codec import Encoding, encode_parts
from fleet_shared.errors import CodecError
from fleet_shared.limits import MIB
from fleet_shared.manifest import BlobRef
from fleet_shared.messages.desired import EncodedBlob
from fleet_shared.names import Digest

log = logging.getLogger(__name__)

WORTH_ENCODING: Final = 0.95
"""An encoding is kept if it has at most this share of the plain bytes."""

PACKED_AT_ONCE_BYTES: Final = 8 * MIB
"""Blobs up to this size are packed within the registration: about 3 s each."""

PACKED_FROM_BYTES: Final = 1024
"""Below, what asking for another blob costs outweighs what is saved."""

SPOOL_MEMORY_BYTES: Final = 8 * MIB
PART_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Packing:
    uow: UnitOfWork
    blobs: BlobStore
    _poor: set[Digest] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def pack_now(self, blobs: list[BlobRef]) -> list[EncodedBlob]:
        """Pack the small ones that have no encoding yet; they are listed by the caller."""
        small = [blob for blob in blobs if PACKED_FROM_BYTES <= blob.size_bytes <= PACKED_AT_ONCE_BYTES]
        with self.uow.read() as transaction:
            wanted = [blob for blob in small if not transaction.models.encodings(blob.sha256)]
        return [encoding for blob in wanted if (encoding := self._pack(blob)) is not None]

    def pack_next(self) -> bool:
        """Pack and list one large blob of a registered version; false when there is none."""
        with self.uow.read() as transaction:
            blob = self._find(transaction)
        if blob is None or self._stopped.is_set():
            return False
        try:
            encoding = self._pack(blob)
        except _StoppedError:
            return False
        except (NotFound, CodecError, Unavailable) as exc:  # one blob must not keep the others waiting
            log.error("blob %s cannot be packed: %s", blob.sha256, exc)
            encoding = None
        if encoding is None:
            self._poor.add(blob.sha256)
        else:
            with self.uow.begin() as transaction:
                transaction.models.add_encoding(encoding)
        return True

    def stop(self) -> None:
        """End a `pack_next` that is at work, from another thread; what it made is dropped."""
        self._stopped.set()

    def _find(self, transaction: Transaction) -> BlobRef | None:
        for version in transaction.models.versions(None):
            for blob in (blob for variant in version.variants for blob in variant.manifest.blobs.values()):
                if blob.size_bytes <= PACKED_AT_ONCE_BYTES or blob.sha256 in self._poor:
                    continue
                if not transaction.models.encodings(blob.sha256):
                    return blob
        return None

    def _pack(self, blob: BlobRef) -> EncodedBlob | None:
        """Store the blob once more, packed, if that is worth it; in bounded memory."""
        digest, size = hashlib.sha256(), 0
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES) as spool:
            for part in encode_parts(Encoding.ZSTD, self._read(blob.sha256), blob.size_bytes):
                digest.update(part)
                size += len(part)
                if size > WORTH_ENCODING * blob.size_bytes:
                    return None
                _write(spool, part)
            spool.seek(0)
            sha256 = Digest(digest.hexdigest())
            self.blobs.put(sha256, iter(lambda: spool.read(PART_BYTES), b""))
        return EncodedBlob(
            blob=blob.sha256,
            encoding=Encoding.ZSTD,
            sha256=sha256,
            encoded_bytes=size,
            size_bytes=blob.size_bytes,
        )

    def _read(self, sha256: Digest) -> Iterator[bytes]:
        for part in self.blobs.read(sha256):
            if self._stopped.is_set():
                raise _StoppedError
            yield part


class _StoppedError(Exception):
    """The controller ends."""


def _write(spool: "tempfile.SpooledTemporaryFile[bytes]", part: bytes) -> None:
    try:
        spool.write(part)
    except OSError as exc:
        raise Unavailable(
            f"the temporary folder {tempfile.gettempdir()} cannot hold a packed model: {exc}",
            hint="free space there, or name another folder in TMPDIR",
            code="storage.spool",
        ) from exc
