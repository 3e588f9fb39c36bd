"""What a download reads from, whichever way the bytes come: asked once, then a head, then its parts.

Two ways answer to this form: HTTP(S) (`answer`) and the broker (`broker`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from fleet_shared.names import Digest


class AnswerError(Exception):
    """The network's fault: the message is for the operator. ``slow``: it gave some, but too little."""

    def __init__(self, message: str, *, slow: bool = False) -> None:
        super().__init__(message)
        self.slow = slow


@dataclass(frozen=True)
class Head:
    """``headers`` have names in lower case. A way without a status of its own says what HTTP would."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Wanted:
    """The rest of a blob: ``have`` bytes of its ``size_bytes`` are here, of the answer ``etag``."""

    sha256: Digest
    size_bytes: int
    have: int = 0
    etag: str | None = None


class Response(Protocol):
    """`head`, then `parts`, then `close` in any case. Raises `AnswerError`, or `TransferError`
    (``transfer.aborted`` soon after the download was ended; the controller's word, for a final one).

    ``received``: bytes of the body that came over the wire, taken or not."""

    @property
    def received(self) -> int: ...

    @property
    def over_broker(self) -> bool: ...

    def head(self) -> Head: ...

    def parts(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


Source = Callable[[Wanted, Event], Response]
"""Ask for the rest of a blob; the event ends it. Raises what a `Response` does, and `NotYetError`."""
