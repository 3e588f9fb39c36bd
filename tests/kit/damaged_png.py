"""PNG files with a chunk that Pillow cannot make sense of, each in a way of its own."""

import struct
import zlib
from types import MappingProxyType
from typing import Final

DAMAGES: Final = MappingProxyType(
    {
        "ValueError": (b"tRNS", b"\0\0", b"IDAT"),
        "struct.error": (b"gAMA", b"\0", b"IDAT"),
        "IndexError": (b"iCCP", b"", b"IEND"),
    }
)
"""By what Pillow raises: the chunk, its body, and the chunk that it stands before."""


def damage_png(whole: bytes, kind: str) -> bytes:
    """Return a whole PNG of colours with that damage."""
    chunk, body, later = DAMAGES[kind]
    at = whole.index(later) - 4
    length, check = (struct.pack(">I", number) for number in (len(body), zlib.crc32(chunk + body)))
    return whole[:at] + length + chunk + body + check + whole[at:]
