"""How a document becomes bytes and back: JSON, a schema number, a size limit.

Within schema 1 only optional fields are added. Unknown fields are ignored; unknown values of an
enum become ``unknown``; another schema is refused.
"""

from enum import Enum
from typing import Annotated, ClassVar, Final, TypeVar

import msgspec

from fleet_shared.errors import MessageError
from fleet_shared.limits import KIB

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A whole number that every database can hold."""

Seq = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
"""The number of a row within its stream; bounded so that sums over all streams stay whole numbers too."""

WORD: Final = msgspec.Meta(pattern=r"\A[A-Za-z0-9_.:-]{1,64}\Z")
"""What a random id, a session, a stream or the name of an event looks like."""

Word = Annotated[str, WORD]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything that travels. ``LIMIT_BYTES`` bounds its encoded form; ``SCHEMA`` is the
    newest schema that this version reads."""

    LIMIT_BYTES: ClassVar[int] = 64 * KIB
    SCHEMA: ClassVar[int] = 1

    schema: int = 1


class OpenEnum(str, Enum):
    """A string enum that reads a value it does not know as its member ``UNKNOWN``."""

    @classmethod
    def _missing_(cls, value: object) -> "OpenEnum | None":
        return cls.__members__.get("UNKNOWN") if isinstance(value, str) else None


D = TypeVar("D", bound=Document)


def encode(document: Document) -> bytes:
    """Return ``document`` as JSON; raise `MessageError` when it exceeds its limit."""
    raw = msgspec.json.encode(document)
    _check_size(type(document), raw)
    return raw


def decode(kind: type[D], raw: bytes) -> D:
    """Return ``raw`` as a ``kind``; raise `MessageError` when it is not one."""
    _check_size(kind, raw)
    try:
        document = msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MessageError(f"{kind.__name__} does not parse: {exc}") from exc
    if not 1 <= document.schema <= kind.SCHEMA:
        known = f"1 to {kind.SCHEMA}" if kind.SCHEMA > 1 else str(kind.SCHEMA)
        raise MessageError(
            f"{kind.__name__} has schema {document.schema}, expected {known}",
            hint="one side runs a newer Fleet; update the other",
            code="message.schema",
        )
    return document


_CONTROL: Final = dict.fromkeys((*range(32), 127), " ")
_ELLIPSIS: Final = "…"


def clip(text: str, size_bytes: int) -> str:
    """Return ``text`` as it can travel and be stored: valid UTF-8 of at most ``size_bytes`` (3 or
    more), without control characters, so that JSON makes it at most twice as long."""
    raw = text.encode("utf-8", "replace").decode().translate(_CONTROL).encode()
    if len(raw) <= size_bytes:
        return raw.decode()
    return raw[: size_bytes - len(_ELLIPSIS.encode())].decode("utf-8", "ignore") + _ELLIPSIS


def _check_size(kind: type[Document], raw: bytes) -> None:
    if len(raw) > kind.LIMIT_BYTES:
        raise MessageError(
            f"{kind.__name__} has {len(raw)} bytes, at most {kind.LIMIT_BYTES} are allowed",
            code="message.too_large",
        )
