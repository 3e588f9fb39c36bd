"""A real HTTP server of one blob that misbehaves as a test tells it to."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


@dataclass
class BlobServer:
    """Gives the scripted answers first, then ``always``; remembers what was asked."""

    body: bytes
    script: list[Answer] = field(default_factory=list)
    always: Answer | None = None
    etag: str | None = '"one"'
    ranges: list[str | None] = field(default_factory=list)
    if_ranges: list[str | None] = field(default_factory=list)
    port: int = 0
    urls: int = 0

    def url_of(self, _sha256: str) -> str:
        self.urls += 1
        return f"http://127.0.0.1:{self.port}/{self.urls}"

    def answer(self, handler: Handler) -> None:
        self.ranges.append(handler.headers.get("Range"))
        self.if_ranges.append(handler.headers.get("If-Range"))
        (self.script.pop(0) if self.script else self.always or self.honest)(handler)

    def honest(self, handler: Handler) -> None:
        self.send(handler)

    def send(
        self,
        handler: Handler,
        *,
        ranged_status: int = 206,
        upto: int | None = None,
        cut: int | None = None,
        shift: int = 0,
        say_range: bool = True,
    ) -> None:
        """Answer as asked, but: with ``ranged_status`` to a range, only as far as ``upto`` bytes of
        the file, cut after ``cut`` bytes of this answer, from ``shift`` bytes beside."""
        whole, start = self.body, start_of(handler)
        if handler.headers.get("If-Range") not in (None, self.etag):
            start = 0
        asked = "Range" in handler.headers and not (handler.headers.get("If-Range") and not start)
        part = whole[max(0, start + shift) : upto]
        handler.send_response(ranged_status if asked else 200)
        handler.send_header("Content-Length", str(len(part)))
        if asked and say_range:
            handler.send_header("Content-Range", f"bytes {start + shift}-{len(whole) - 1}/{len(whole)}")
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.end_headers()
        handler.wfile.write(part[:cut])
        handler.close_connection = True


def start_of(handler: Handler) -> int:
    asked = handler.headers.get("Range")
    return int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0


def status(code: int, **headers: str) -> Answer:
    """An answer without a body."""

    def answer(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def content(body: bytes, announced: int | None = None) -> Answer:
    """200 with this body whatever was asked; ``announced``: another length than it has."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) if announced is None else announced))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return answer


@contextmanager
def blob_server(body: bytes) -> Iterator[BlobServer]:
    state = BlobServer(body)

    class Scripted(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *_args: object) -> None:
            return

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    state.port = listener.server_port
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
