"""Zstandard (RFC 8878), one frame, level 19. Models are packed once and carried often."""

import io
from collections.abc import Iterable, Iterator
from typing import IO, Final, cast

from fleet_shared.errors import CodecError

LEVEL: Final = 19
OUTPUT_PART_BYTES: Final = 128 * 1024
WINDOW_LOG_MAX: Final = 24  # 16 MiB of window: what a small device can spare


def encode(parts: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """Yield the frame of ``size_bytes`` plain bytes, in bounded memory (about 100 MiB). The same
    bytes for the same content, however it was cut into parts. Raises `CodecError` when ``parts``
    have another length."""
    import zstandard  # imported late: an idle agent does not need it

    compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
    frame = compressor.compressobj(size=size_bytes)
    source = cast("IO[bytes]", _Parts(parts))
    try:
        while part := source.read(OUTPUT_PART_BYTES):
            if packed := frame.compress(part):
                yield packed
        yield frame.flush()
    except zstandard.ZstdError as exc:
        raise CodecError(f"the content has not the announced {size_bytes} bytes: {exc}") from exc


def decode(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield plain parts of at most ``OUTPUT_PART_BYTES``, so that a bomb stops early."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG_MAX)
    source = cast("IO[bytes]", _Parts(parts))
    try:
        with decompressor.stream_reader(source, read_size=OUTPUT_PART_BYTES) as reader:
            while part := reader.read(OUTPUT_PART_BYTES):
                yield part
    except zstandard.ZstdError as exc:
        raise CodecError(f"zstd data is damaged: {exc}") from exc


class _Parts(io.RawIOBase):
    """Iterable of bytes as the ``read(size)`` that a stream reader asks for."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        super().__init__()
        self._parts = iter(parts)
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        while not self._left:
            try:
                self._left = next(self._parts)
            except StopIteration:
                return b""
        size = len(self._left) if size < 0 else size
        taken, self._left = self._left[:size], self._left[size:]
        return taken
