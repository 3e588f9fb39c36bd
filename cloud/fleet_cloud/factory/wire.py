"""How many bytes a file has in each encoding that devices may get it in, and in xz, to compare with."""

import lzma

from fleet_shared.codec import Encoding, encode_blob
from fleet_shared.limits import CODEBOOK_BYTES


def measure_wire(content: bytes) -> dict[str, int]:
    """Return the bytes by the name of the encoding; ``xz`` is at its best preset. A file that is too large
    for an encoding has none in it."""
    measured = {
        encoding.value: len(encode_blob(encoding, content))
        for encoding in (Encoding.IDENTITY, Encoding.ZSTD, Encoding.CODEBOOK)
        if encoding is not Encoding.CODEBOOK or len(content) <= CODEBOOK_BYTES
    }
    return {**measured, "xz": len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))}
