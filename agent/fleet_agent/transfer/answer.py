"""One HTTP answer, taken in by a thread of its own: whoever waits for it is never held up by a socket.

A name that does not resolve, a connection that stalls and a server that drips all block where nothing
can reach them. So the thread that asks only puts what comes on a short queue; it touches no file, and
when nobody wants its answer any more it is left to end with its socket. Redirects are not followed: a
blob's address is one that the controller gave.

urllib3 is imported with the first download: an idle agent does not carry it.
"""

import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleet_agent.errors import TransferError
from fleet_agent.transfer.response import AnswerError, Head, Wanted
from fleet_shared.names import Digest

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 30.0
HEAD_WITHIN_S: Final = 45.0
"""Name, connection, encryption and headers together, however slowly each byte of them comes."""
PART_BYTES: Final = 64 * 1024
PARTS_AHEAD: Final = 2
LOOK_EVERY_S: Final = 0.1
"""How soon an abort is seen."""


@dataclass(frozen=True)
class Pace:
    """A connection that gives fewer than ``bytes_min`` in ``window_s`` is given up: a slow link is
    well above, a server that drips to hold its clients is not."""

    window_s: float = 30.0
    bytes_min: int = 3000


class Answer:
    """`head`, then `parts`, then `close` in any case. Raises `AnswerError`, or `TransferError`
    (``transfer.aborted``) soon after ``aborted`` is set. The body is asked for with the first of `parts`:
    what is refused for its head costs none. ``received``: bytes of the body that came over the wire, taken
    or not. ``reached``: a head came, so there is a way to the server."""

    over_broker = False

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        aborted: threading.Event,
        pace: Pace,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.received = 0
        self._tls = tls
        self.reached = False
        self._aborted, self._pace = aborted, pace
        self._queue: queue.Queue[Head | bytes | AnswerError | None] = queue.Queue(PARTS_AHEAD)
        self._decided, self._left = threading.Event(), threading.Event()
        self._response: BaseHTTPResponse | None = None
        try:
            threading.Thread(target=self._ask, args=(url, headers), name="wire", daemon=True).start()
        except RuntimeError as exc:
            raise AnswerError(f"no thread can be started: {exc}") from exc

    def head(self) -> Head:
        deadline_s = time.monotonic() + HEAD_WITHIN_S
        while (item := self._take()) is None:
            if time.monotonic() >= deadline_s:
                raise AnswerError(f"no answer within {HEAD_WITHIN_S:g} s")
        if not isinstance(item, Head):
            raise AnswerError("the answer has no head")
        self.reached = True
        return item

    def parts(self) -> Iterator[bytes]:
        """Yield the body as it comes; it may end early."""
        self._decided.set()
        begin_s, count = time.monotonic(), 0
        while True:
            item = self._take()
            if item == b"":
                return
            if isinstance(item, bytes):
                count += len(item)
                yield item
            if (now_s := time.monotonic()) - begin_s >= self._pace.window_s:
                if count < self._pace.bytes_min:
                    raise AnswerError(f"only {count} bytes in {now_s - begin_s:.0f} s", slow=count > 0)
                begin_s, count = now_s, 0

    def close(self) -> None:
        self._left.set()
        self._decided.set()
        if (response := self._response) is not None:
            try:
                response.shutdown()
            except (OSError, ValueError, RuntimeError):
                return  # it has ended, or ends with its time-out

    def _take(self) -> Head | bytes | None:
        """Return what came, an empty part at the end, or none when nothing came for a moment."""
        if self._aborted.is_set():
            raise TransferError("the download was ended", code="transfer.aborted")
        try:
            item = self._queue.get(timeout=LOOK_EVERY_S)
        except queue.Empty:
            return None
        if isinstance(item, AnswerError):
            raise item
        return b"" if item is None else item

    def _ask(self, url: str, headers: Mapping[str, str]) -> None:
        import urllib3

        try:
            terms = self._tls() if self._tls is not None and url.startswith("https:") else None
            with (
                urllib3.PoolManager(ssl_context=terms) as pool,
                pool.request(
                    "GET",
                    url,
                    headers=headers,
                    preload_content=False,
                    retries=False,
                    timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
                ) as response,
            ):
                self._response = response
                self._put(Head(response.status, {k.lower(): v for k, v in response.headers.items()}))
                self._decided.wait()
                while not self._left.is_set() and (part := response.read1(PART_BYTES, decode_content=False)):
                    self.received += len(part)
                    self._put(part)
            self._put(None)
        except Exception as exc:  # noqa: BLE001 - the guard of the thread: whoever waits hears of it
            self._put(AnswerError(f"{type(exc).__name__}: {exc}"))

    def _put(self, item: Head | bytes | AnswerError | None) -> None:
        """Hand it over, unless nobody wants it any more."""
        while not self._left.is_set():
            try:
                self._queue.put(item, timeout=LOOK_EVERY_S)
            except queue.Full:
                continue
            return


@dataclass(frozen=True)
class HttpSource:
    """Blobs over HTTP(S). ``url_of`` asks for the URL of a blob, anew for each answer: it lives for minutes
    only. It may block, and raise `NotYetError`. ``tls`` makes the terms of HTTPS; those of the system, if
    none."""

    url_of: Callable[[Digest], str]
    pace: Pace = Pace()
    tls: Callable[[], ssl.SSLContext] | None = None

    def __call__(self, wanted: Wanted, aborted: threading.Event) -> Answer:
        return Answer(self.url_of(wanted.sha256), _range(wanted), aborted, self.pace, self.tls)


def _range(wanted: Wanted) -> dict[str, str]:
    if not wanted.have:
        return {}
    return {"Range": f"bytes={wanted.have}-", **({"If-Range": wanted.etag} if wanted.etag else {})}
