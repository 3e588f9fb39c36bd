"""``fetch`` (device to cloud) and ``chunk`` (cloud to device): a URL for a blob on request.

A device asks for a blob of its own assignment by digest, and gets a URL that lives for a short
time, or a failure. ``request`` ties the answer to the question.
"""

from typing import Annotated, ClassVar

from fleet_shared.limits import CHUNK_BYTES, FETCH_BYTES
from fleet_shared.messages.reported import Failure
from fleet_shared.names import AssignmentId, Digest
from fleet_shared.wire import WORD, Document, Word


class Fetch(Document, frozen=True, kw_only=True):
    LIMIT_BYTES: ClassVar[int] = FETCH_BYTES

    request: Word
    assignment: Annotated[AssignmentId, WORD]
    sha256: Annotated[Digest, WORD]


class Chunk(Document, frozen=True, kw_only=True):
    """``life_s`` counts from the sending: a device need not know the time. ``retry``: the failure is
    a passing one (the store is away), and the device may ask again."""

    LIMIT_BYTES: ClassVar[int] = CHUNK_BYTES

    request: str
    sha256: Digest
    url: str | None = None
    life_s: int = 0
    failure: Failure | None = None
    retry: bool = False
