"""Encodings: the ways one blob can travel.

A blob is named by the sha256 of its plain bytes; an encoding is another blob that gives them
back. Encodings are listed in a desired document with hash and both lengths. A decoder never
produces more than the length that was promised.
"""

import importlib.util
from collections.abc import Iterable, Iterator
from typing import Final

from typing_extensions import assert_never

from fleet_shared.codec import identity, zstd
from fleet_shared.errors import CodecError
from fleet_shared.wire import OpenEnum


class Encoding(OpenEnum):
    IDENTITY = "identity"
    ZSTD = "zstd"
    CODEBOOK = "codebook"
    UNKNOWN = "unknown"


_HAS_LZMA: Final = importlib.util.find_spec("_lzma") is not None
"""A Python that was built without it decodes no codebook."""

SUPPORTED: Final = (Encoding.IDENTITY, Encoding.ZSTD, *([Encoding.CODEBOOK] if _HAS_LZMA else []))
"""What this process decodes; a device reports it."""


def encode_blob(encoding: Encoding, content: bytes) -> bytes:
    """Return ``content`` in ``encoding``; the same bytes for the same content."""
    return b"".join(encode_parts(encoding, [content], len(content)))


def encode_parts(encoding: Encoding, parts: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """Yield ``parts``, ``size_bytes`` in all, in ``encoding``; in bounded memory.

    Raises `CodecError` where the encoding does not take so many bytes.
    """
    match encoding:
        case Encoding.IDENTITY:
            return iter(parts)
        case Encoding.ZSTD:
            return zstd.encode(parts, size_bytes)
        case Encoding.CODEBOOK:
            from fleet_shared.codec import codebook  # an idle agent does not need it

            return codebook.encode(parts, size_bytes)
        case Encoding.UNKNOWN:
            raise CodecError("cannot encode with an unknown encoding")
        case _ as never:
            assert_never(never)


def decode_blob(encoding: Encoding, parts: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """Yield the plain bytes of ``parts``, exactly ``size_bytes`` of them, in bounded memory.

    Raises `CodecError` on damage, and as soon as more or in the end fewer bytes come out.
    """
    produced = 0
    for part in _decode(encoding, parts):
        produced += len(part)
        if produced > size_bytes:
            raise CodecError(f"{encoding.value} gives more than the promised {size_bytes} bytes")
        yield part
    if produced != size_bytes:
        raise CodecError(f"{encoding.value} gives {produced} bytes, promised were {size_bytes}")


def _decode(encoding: Encoding, parts: Iterable[bytes]) -> Iterator[bytes]:
    match encoding:
        case Encoding.IDENTITY:
            return identity.decode(parts)
        case Encoding.ZSTD:
            return zstd.decode(parts)
        case Encoding.CODEBOOK:
            from fleet_shared.codec import codebook

            return codebook.decode(parts)
        case Encoding.UNKNOWN:
            raise CodecError("this agent does not know the encoding", hint="update the agent")
        case _ as never:
            assert_never(never)
