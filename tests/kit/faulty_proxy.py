"""An HTTP proxy between a device and the blob store that passes everything but blobs honestly, and blobs
as a test tells it to."""

import http.client
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

Handler = http.server.BaseHTTPRequestHandler
Fault = Callable[["FaultyProxy", Handler], None]
BLOBS = "/blobs/"
PART_BYTES = 16_384


@dataclass
class FaultyProxy:
    """``faults``: one for each request for a blob, then ``always``, then none. ``asked`` counts them."""

    target_port: int
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    asked: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def tell(self, *faults: Fault, always: Fault | None = None) -> None:
        self.faults, self.always, self.asked = list(faults), always, 0

    def answer(self, handler: Handler) -> None:
        if BLOBS not in handler.path:
            self.forward(handler)
            return
        self.asked += 1
        fault = self.faults.pop(0) if self.faults else self.always
        if fault is None:
            self.forward(handler)
        else:
            fault(self, handler)
        handler.close_connection = True

    def forward(
        self,
        handler: Handler,
        *,
        bytes_per_s: float | None = None,
        cut: int | None = None,
        change: Callable[[bytes], bytes] = bytes,
    ) -> None:
        """Pass on the request and its answer: at a rate, cut after so many bytes of the body, or with
        each part of it changed."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.target_port, timeout=30)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() != "host"}
            upstream.request(handler.command, handler.path, self._read(handler), headers)
            answer = upstream.getresponse()
            handler.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                    handler.send_header(name, value)
            handler.send_header("Connection", "close")
            handler.end_headers()
            left = cut
            while (part := answer.read1(PART_BYTES)) and (left is None or left > 0):
                handler.wfile.write(change(part[:left]))
                left = None if left is None else left - len(part)
                if bytes_per_s is not None and self.closing.wait(len(part) / bytes_per_s):
                    return
        finally:
            upstream.close()

    def _read(self, handler: Handler) -> bytes | None:
        length = handler.headers.get("Content-Length")
        return handler.rfile.read(int(length)) if length else None


P = TypeVar("P", bound=FaultyProxy)


def status(code: int, **headers: str) -> Fault:
    def answer(_proxy: FaultyProxy, handler: Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def reset(_proxy: FaultyProxy, handler: Handler) -> None:
    """The connection ends without a word (RST)."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def stall(proxy: FaultyProxy, handler: Handler) -> None:
    """A good beginning, then silence."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.write(b"x")
    proxy.closing.wait()


def drip(proxy: FaultyProxy, handler: Handler) -> None:
    """A byte now and then, so that no read ever times out."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not proxy.closing.wait(0.5):
        handler.wfile.write(b"x")


def endless(proxy: FaultyProxy, handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not proxy.closing.is_set():
        handler.wfile.write(bytes(PART_BYTES))
        time.sleep(0)


def cut_after(count: int) -> Fault:
    return lambda proxy, handler: proxy.forward(handler, cut=count)


def slowly(bytes_per_s: float) -> Fault:
    return lambda proxy, handler: proxy.forward(handler, bytes_per_s=bytes_per_s)


def damaged(proxy: FaultyProxy, handler: Handler) -> None:
    proxy.forward(handler, change=lambda part: bytes([part[0] ^ 1]) + part[1:] if part else part)


@contextmanager
def faulty_proxy(target_port: int) -> Iterator[FaultyProxy]:
    with serving(FaultyProxy(target_port)) as state:
        yield state


@contextmanager
def serving(state: P) -> Iterator[P]:
    """Let a proxy listen; its port is chosen by the kernel."""

    class Scripted(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                state.answer(self)
            except (OSError, http.client.HTTPException):
                self.close_connection = True

        do_POST = do_PUT = do_GET  # noqa: N815 - the library's names

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                return

        def log_message(self, *_args: object) -> None:
            return

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    listener.daemon_threads = True
    listener.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that went is no news
    state.port = listener.server_port
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        listener.shutdown()
        thread.join()
        listener.server_close()
