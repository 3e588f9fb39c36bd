"""Packed encodings of blobs: small ones at registration, large ones afterwards.

Zstd packs about 3 MB a second, a codebook less than one: no request can wait for a model of a gigabyte.
A version is complete without encodings, and pushes carry the plain blob until one is there. An encoding that
fewer agents know is kept where it is smaller than what the others get.

Not kept: that a blob was not worth packing, or could not be stored. It is tried once more after a restart.
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
from fleet_shared.codec import Encoding, decode_blob, encode_parts
from fleet_shared.errors import CodecError
from fleet_shared.limits import BLOB_BYTES, CODEBOOK_BYTES, MIB
from fleet_shared.manifest import BlobRef
from fleet_shared.messages.desired import EncodedBlob
from fleet_shared.names import Digest

log = logging.getLogger(__name__)

WORTH_ENCODING: Final = 0.95
"""An encoding is kept if it has at most this share of the plain bytes."""

WORTH_BESIDE: Final = 0.98
"""A codebook is kept if it has at most this share of the bytes that zstd has."""

PACKED_AT_ONCE_BYTES: Final = 8 * MIB
"""Blobs up to this size are packed by zstd within the registration: about 3 s each."""

CODED_AT_ONCE_BYTES: Final = 1 * MIB
"""Blobs up to this size get their codebook within the registration: about 2 s each, and up to 3 s to
decode it again."""

PACKED_FROM_BYTES: Final = 1024
"""Below, what asking for another blob costs outweighs what is saved."""

SPOOL_MEMORY_BYTES: Final = 8 * MIB
PART_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Packing:
    uow: UnitOfWork
    blobs: BlobStore
    _poor: set[tuple[Digest, Encoding]] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def pack_now(self, blobs: list[BlobRef]) -> list[EncodedBlob]:
        """Pack the small ones in the encodings that they have not yet; they are listed by the caller."""
        packed = []
        for blob in (blob for blob in blobs if blob.size_bytes >= PACKED_FROM_BYTES):
            with self.uow.read() as transaction:
                listed = list(transaction.models.encodings(blob.sha256))
            for encoding in self._missing(blob, listed, at_once=True):
                if (made := self._try(blob, encoding, listed)) is not None:
                    listed.append(made)
                    packed.append(made)
        return packed

    def pack_next(self) -> bool:
        """Pack and list one large blob of a registered version; false when there is none."""
        with self.uow.read() as transaction:
            task = self._find(transaction)
        if task is None or self._stopped.is_set():
            return False
        try:
            made = self._try(*task)
        except _StoppedError:
            return False
        except (NotFound, CodecError, Unavailable) as exc:  # one blob must not keep the others waiting
            log.error("blob %s cannot be packed: %s", task[0].sha256, exc)
            self._poor.add((task[0].sha256, task[1]))
            return True
        if made is not None:
            with self.uow.begin() as transaction:
                transaction.models.add_encoding(made)
        return True

    def stop(self) -> None:
        """End a `pack_next` that is at work, from another thread; what it made is dropped."""
        self._stopped.set()

    def _find(self, transaction: Transaction) -> tuple[BlobRef, Encoding, list[EncodedBlob]] | None:
        for version in transaction.models.versions(None):
            for blob in (blob for variant in version.variants for blob in variant.manifest.blobs.values()):
                if blob.size_bytes > min(PACKED_AT_ONCE_BYTES, CODED_AT_ONCE_BYTES):
                    listed = list(transaction.models.encodings(blob.sha256))
                    for encoding in self._missing(blob, listed, at_once=False):
                        return blob, encoding, listed
        return None

    def _missing(self, blob: BlobRef, listed: list[EncodedBlob], *, at_once: bool) -> list[Encoding]:
        """Return the encodings that are to be tried, of those that are made at once, or later."""
        at_once_bytes = {Encoding.ZSTD: PACKED_AT_ONCE_BYTES, Encoding.CODEBOOK: CODED_AT_ONCE_BYTES}
        tried = {one.encoding for one in listed}
        return [
            encoding
            for encoding, bytes_max in {Encoding.ZSTD: BLOB_BYTES, Encoding.CODEBOOK: CODEBOOK_BYTES}.items()
            if encoding not in tried and (blob.sha256, encoding) not in self._poor
            if blob.size_bytes <= bytes_max and (blob.size_bytes <= at_once_bytes[encoding]) == at_once
        ]

    def _try(self, blob: BlobRef, encoding: Encoding, listed: list[EncodedBlob]) -> EncodedBlob | None:
        """Pack the blob if that is worth it beside what it has; else remember that it is not."""
        others = [one.encoded_bytes for one in listed]
        bytes_max = int(min([WORTH_ENCODING * blob.size_bytes, *(WORTH_BESIDE * size for size in others)]))
        made = self._pack(blob, encoding, bytes_max)
        if made is None:
            self._poor.add((blob.sha256, encoding))
        return made

    def _pack(self, blob: BlobRef, encoding: Encoding, bytes_max: int) -> EncodedBlob | None:
        """Store the blob once more, packed, if it is no longer than that."""
        digest, size = hashlib.sha256(), 0
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES) as spool:
            for part in encode_parts(encoding, self._read(blob.sha256), blob.size_bytes):
                digest.update(part)
                size += len(part)
                if size > bytes_max:
                    return None
                if self._stopped.is_set():
                    raise _StoppedError
                _write(spool, part)
            if encoding is Encoding.CODEBOOK and not self._comes_back(blob, encoding, spool):
                return None
            spool.seek(0)
            sha256 = Digest(digest.hexdigest())
            self.blobs.put(sha256, iter(lambda: spool.read(PART_BYTES), b""))
        return EncodedBlob(
            blob=blob.sha256, encoding=encoding, sha256=sha256, encoded_bytes=size, size_bytes=blob.size_bytes
        )

    def _comes_back(
        self, blob: BlobRef, encoding: Encoding, spool: "tempfile.SpooledTemporaryFile[bytes]"
    ) -> bool:
        """Decode it as a device does: what is wrong here would be wrong on every device of a rollout."""
        spool.seek(0)
        digest = hashlib.sha256()
        try:
            for part in decode_blob(encoding, iter(lambda: spool.read(PART_BYTES), b""), blob.size_bytes):
                digest.update(part)
                if self._stopped.is_set():
                    raise _StoppedError
        except CodecError as exc:
            log.error("blob %s does not come back from %s: %s", blob.sha256, encoding.value, exc)
            return False
        return digest.hexdigest() == blob.sha256

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
