"""Decoders against files that promise one thing and hold another."""

import tracemalloc

import pytest
import zstandard

from fleet_shared.codec import SUPPORTED, Encoding, decode_blob, encode_blob
from fleet_shared.codec.zstd import OUTPUT_PART_BYTES, decode
from fleet_shared.errors import CodecError

MIB = 1 << 20


@pytest.mark.parametrize("encoding", SUPPORTED)
def test_one_byte_more_or_less_than_promised_is_refused(encoding: Encoding) -> None:
    packed = encode_blob(encoding, b"abc")
    assert b"".join(decode_blob(encoding, [packed], 3)) == b"abc"
    with pytest.raises(CodecError, match="more than the promised 2"):
        list(decode_blob(encoding, [packed], 2))
    with pytest.raises(CodecError, match="3 bytes, promised were 4"):
        list(decode_blob(encoding, [packed], 4))
    assert b"".join(decode_blob(encoding, [encode_blob(encoding, b"")], 0)) == b""


def test_the_names_on_the_wire() -> None:
    assert [encoding.value for encoding in SUPPORTED] == ["identity", "zstd", "codebook"]
    assert Encoding("delta") is Encoding.UNKNOWN
    for work in (
        lambda: encode_blob(Encoding.UNKNOWN, b""),
        lambda: list(decode_blob(Encoding.UNKNOWN, [b""], 0)),
    ):
        with pytest.raises(CodecError):
            work()


def test_the_same_content_is_packed_into_the_same_bytes_with_its_size() -> None:
    content = b"weights " * 1000
    packed = encode_blob(Encoding.ZSTD, content)
    assert packed == encode_blob(Encoding.ZSTD, content)
    assert len(packed) < len(content) / 50
    assert zstandard.frame_content_size(packed) == len(content)


def test_a_bomb_costs_no_memory_and_stops_at_the_promise() -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(b"\0" * (64 * MIB))  # a dear one takes ten seconds
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="more than the promised"):
            list(decode_blob(Encoding.ZSTD, [bomb], MIB))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


def test_parts_are_small() -> None:
    assert max(map(len, decode([encode_blob(Encoding.ZSTD, b"\0" * MIB)]))) <= OUTPUT_PART_BYTES == 131_072


def test_a_window_that_a_small_device_cannot_hold_is_refused() -> None:
    content = b"\0" * (40 * MIB)

    def pack(window_log: int) -> bytes:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            1, window_log=window_log, write_content_size=False
        )
        # Streamed: without the size in the frame the window is what the parameters say.
        packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        return packer.compress(content) + packer.flush()

    assert sum(map(len, decode([pack(24)]))) == len(content)
    with pytest.raises(CodecError, match="damaged"):
        list(decode([pack(25)]))
