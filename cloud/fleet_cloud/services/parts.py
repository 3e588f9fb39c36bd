"""Parts of blobs, read in larger blocks of which the newest are kept: devices of one wave ask for the same
parts, and a store that is far away takes as long for a small range as for a large one.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from fleet_cloud.errors import NotFound
from fleet_cloud.services.ports import BlobStore
from fleet_shared.limits import PART_BYTES
from fleet_shared.names import Digest

BLOCK_BYTES: Final = 8 * PART_BYTES
BLOCKS_KEPT: Final = 16


@dataclass(frozen=True, slots=True)
class _Block:
    """``total``: how long the whole blob is."""

    content: bytes
    total: int


@dataclass(frozen=True, slots=True)
class BlobParts:
    """May be used from several threads; two may read the same block, and both keep it."""

    store: BlobStore
    _blocks: OrderedDict[tuple[Digest, int], _Block] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, sha256: Digest, offset: int, length: int) -> tuple[bytes, int]:
        """Return bytes [offset, offset + length) of a blob, fewer at its end, and how long it is. Raises
        `NotFound` (``blob.unknown``)."""
        number, begin = divmod(offset, BLOCK_BYTES)
        block = self._block(sha256, number)
        content = block.content[begin : begin + length]
        if (missing := begin + length - BLOCK_BYTES) > 0 and len(block.content) == BLOCK_BYTES:
            content += self._block(sha256, number + 1).content[:missing]
        return content, block.total

    def _block(self, sha256: Digest, number: int) -> _Block:
        with self._lock:
            if (known := self._blocks.get((sha256, number))) is not None:
                self._blocks.move_to_end((sha256, number))
                return known
        block = self._load(sha256, number)
        if block.content:
            with self._lock:
                self._blocks[sha256, number] = block
                while len(self._blocks) > BLOCKS_KEPT:
                    self._blocks.popitem(last=False)
        return block

    def _load(self, sha256: Digest, number: int) -> _Block:
        if (info := self.store.info(sha256)) is None:
            raise unknown_blob(sha256)
        begin = number * BLOCK_BYTES
        end = min(begin + BLOCK_BYTES, info.size_bytes)
        content = b"".join(self.store.read(sha256, begin, end)) if begin < end else b""
        return _Block(content, info.size_bytes)


def unknown_blob(sha256: Digest) -> NotFound:
    return NotFound(f"blob {sha256} is not in the store", hint="upload it first", code="blob.unknown")
