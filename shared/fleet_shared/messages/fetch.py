"""``fetch`` (device to cloud) and ``chunk`` (cloud to device): what a device asks for at the broker.

``request`` ties the answer to the question. A device asks for one of

- the URL of a blob of its own assignment: ``assignment`` and ``sha256``; it lives for a short time;
- a part of that blob, where it has no other way than MQTT: the same, with ``part``;
- a file of the release repository, such as ``metadata/timestamp.json``: ``file``, with ``part``;
- a new certificate: ``csr_pem``, signed by the key that the device is enrolled with.

A chunk with content is its JSON document, a NUL byte, then the bytes as they are: JSON has no NUL.
"""

from typing import Annotated, ClassVar, Final

import msgspec

from fleet_shared.errors import MessageError
from fleet_shared.limits import CHUNK_BYTES, FETCH_BYTES, PART_BYTES
from fleet_shared.messages.reported import Failure
from fleet_shared.names import AssignmentId, Digest
from fleet_shared.wire import Count, Document, Word, decode, encode

_WORD_OR_NONE: Final = msgspec.Meta(pattern=r"\A[A-Za-z0-9_.:-]{0,64}\Z")
_SEPARATOR: Final = b"\0"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes [offset, offset + length) of a file, fewer at its end."""

    offset: Count
    length: Annotated[int, msgspec.Meta(ge=1, le=PART_BYTES)]


class Fetch(Document, frozen=True, kw_only=True):
    LIMIT_BYTES: ClassVar[int] = FETCH_BYTES

    request: Word
    assignment: Annotated[AssignmentId, _WORD_OR_NONE] = AssignmentId("")
    sha256: Annotated[Digest, _WORD_OR_NONE] = Digest("")
    part: Part | None = None
    file: Annotated[str, msgspec.Meta(max_length=300)] | None = None
    csr_pem: Annotated[str, msgspec.Meta(max_length=2000)] | None = None


class Chunk(Document, frozen=True, kw_only=True):
    """``life_s`` counts from the sending: a device need not know the time. ``retry``: the failure is
    a passing one (the store is away), and the device may ask again. ``offset``: where the content of
    this chunk belongs in the file, which has ``total_bytes``."""

    LIMIT_BYTES: ClassVar[int] = CHUNK_BYTES

    request: str
    sha256: Digest = Digest("")
    url: str | None = None
    life_s: int = 0
    failure: Failure | None = None
    retry: bool = False
    offset: Count = 0
    total_bytes: Count | None = None


def encode_chunk(chunk: Chunk, content: bytes | None = None) -> bytes:
    """Return a chunk as it travels; raise `MessageError` when it exceeds its limit."""
    raw = encode(chunk) if content is None else encode(chunk) + _SEPARATOR + content
    _check_size(raw)
    return raw


def decode_chunk(raw: bytes) -> tuple[Chunk, bytes | None]:
    """Return a chunk and its content, none where it has none; raise `MessageError`."""
    _check_size(raw)
    head, separator, content = raw.partition(_SEPARATOR)
    return decode(Chunk, head), content if separator else None


def _check_size(raw: bytes) -> None:
    if len(raw) > CHUNK_BYTES:
        raise MessageError(
            f"Chunk has {len(raw)} bytes, at most {CHUNK_BYTES} are allowed", code="message.too_large"
        )
