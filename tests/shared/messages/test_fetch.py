"""A chunk with content: its document, a NUL byte, the bytes as they are."""

import pytest

from fleet_shared.errors import MessageError
from fleet_shared.limits import CHUNK_BYTES, PART_BYTES
from fleet_shared.messages.fetch import Chunk, Fetch, Part, decode_chunk, encode_chunk
from fleet_shared.names import Digest
from fleet_shared.wire import decode, encode

CHUNK = Chunk(request="r", sha256=Digest("ab" * 32), offset=2**40, total_bytes=2**41)


@pytest.mark.parametrize("content", [b"", b"\0", b"{}\0\xff\0", bytes(PART_BYTES)])
def test_content_travels_as_it_is(content: bytes) -> None:
    assert decode_chunk(encode_chunk(CHUNK, content)) == (CHUNK, content)


def test_a_chunk_without_content_is_a_plain_document() -> None:
    assert encode_chunk(CHUNK) == encode(CHUNK)
    assert decode_chunk(encode(CHUNK)) == (CHUNK, None)


def test_a_chunk_that_is_too_long_or_no_chunk_is_refused() -> None:
    with pytest.raises(MessageError):
        encode_chunk(CHUNK, bytes(CHUNK_BYTES))
    for raw in (bytes(CHUNK_BYTES + 1), b"", b"\0content", b"{\0content", b"[]\0"):
        with pytest.raises(MessageError):
            decode_chunk(raw)


@pytest.mark.parametrize(
    "asked",
    [
        b'{"request":"r","part":{"offset":-1,"length":1}}',
        b'{"request":"r","part":{"offset":0,"length":0}}',
        b'{"request":"r","part":{"offset":0,"length":98305}}',
        b'{"request":"r","sha256":"a b"}',
    ],
)
def test_a_question_out_of_bounds_is_refused(asked: bytes) -> None:
    with pytest.raises(MessageError):
        decode(Fetch, asked)


def test_a_part_may_be_the_longest() -> None:
    fetch = Fetch(request="r", part=Part(offset=0, length=PART_BYTES))
    assert decode(Fetch, encode(fetch)) == fetch
