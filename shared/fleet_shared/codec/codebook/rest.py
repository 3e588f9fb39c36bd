"""What is in no stretch: LZMA2, set for files that are made of words of four bytes.

Biases, scales and tables of offsets are most of the rest. With literals judged by their place within a word
(``lp=2``) they take about a tenth less than in zstd at its best; the decoder is in Python's own library.
"""

from typing import Any, Final

from fleet_shared.errors import CodecError

WORD_BYTES: Final = 4
"""What is packed begins at a whole word of the file, as far as can be."""
DICTIONARY_BYTES: Final = 1 << 20


def pack(plain: bytes) -> bytes:
    import lzma  # imported late: an idle agent does not need it

    return lzma.compress(plain, lzma.FORMAT_RAW, filters=[{**_filter(), "preset": 9 | lzma.PRESET_EXTREME}])


def unpack(packed: bytes, size_bytes: int) -> bytes:
    """Return the plain bytes, exactly so many; raise `CodecError` where they are not."""
    import lzma

    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_filter()])
    try:
        plain = decompressor.decompress(packed, size_bytes + 1)
    except lzma.LZMAError as exc:
        raise CodecError(f"codebook data is damaged: {exc}") from exc
    if len(plain) != size_bytes or not decompressor.eof or decompressor.unused_data:
        raise CodecError("codebook data is damaged: its rest has another length")
    return plain


def _filter() -> dict[str, Any]:
    import lzma

    return {"id": lzma.FILTER_LZMA2, "dict_size": DICTIONARY_BYTES, "lc": 0, "lp": 2, "pb": 2}
