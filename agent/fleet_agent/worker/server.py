"""The Open Inference Protocol over HTTP/1.1, on listening sockets that somebody else owns.

One thread accepts on each socket; each connection has its own thread, up to a bound. To drain:
accept no more, answer each connection's next request with ``Connection: close``, and after the
linger close what is idle. The sockets stay open for the next worker.
"""

import logging
import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

import msgspec

from fleet_agent.errors import WorkerError
from fleet_agent.worker.oip import BadRequest, Protocol

log = logging.getLogger(__name__)

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
LENGTH_DIGITS_MAX: Final = 18
CONNECTIONS_MAX: Final = 64
IDLE_TIMEOUT_S: Final = 60.0
ACCEPT_POLL_S: Final = 0.2


@dataclass
class Server:
    """`start` accepts; `drain` ends it and returns once every connection is closed."""

    protocol: Protocol
    listeners: list[socket.socket]
    connections_max: int = CONNECTIONS_MAX
    draining: threading.Event = field(default_factory=threading.Event)
    _open: dict[socket.socket, "Handler | None"] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _acceptors: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._room = threading.BoundedSemaphore(self.connections_max)

    def start(self) -> None:
        for listener in self.listeners:
            listener.setblocking(False)
            thread = threading.Thread(target=self._accept, args=(listener,), name="accept", daemon=True)
            thread.start()
            self._acceptors.append(thread)

    def drain(self, linger_s: float) -> None:
        self.draining.set()
        for thread in self._acceptors:
            thread.join()
        deadline = time.monotonic() + linger_s
        while self._open and time.monotonic() < deadline:
            time.sleep(0.02)
        with self._lock:
            idle = [connection for connection, handler in self._open.items() if not _is_busy(handler)]
        for connection in idle:
            _shut(connection)
        while self._open and time.monotonic() < deadline + linger_s:
            time.sleep(0.02)

    def _accept(self, listener: socket.socket) -> None:
        while not self.draining.is_set():
            # Both workers wait on this socket during a swap: another may take what woke this one.
            if not select.select([listener], [], [], ACCEPT_POLL_S)[0]:
                continue
            if not self._room.acquire(timeout=ACCEPT_POLL_S):
                continue  # full: who knocks waits in the backlog
            try:
                connection, _ = listener.accept()
            except OSError:
                self._room.release()
                continue
            connection.setblocking(True)
            with self._lock:
                self._open[connection] = None
            threading.Thread(target=self._serve, args=(connection,), name="serve", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(IDLE_TIMEOUT_S)
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Handler(connection, self)
        except OSError:
            pass  # the client went away
        finally:
            with self._lock:
                self._open.pop(connection, None)
            _shut(connection)
            connection.close()
            self._room.release()

    def register(self, connection: socket.socket, handler: "Handler") -> None:
        with self._lock:
            self._open[connection] = handler


class Handler(BaseHTTPRequestHandler):
    """One connection. Runs to its end inside the constructor, as `BaseRequestHandler` does."""

    protocol_version = "HTTP/1.1"
    server_version = "fleet-agent"
    sys_version = ""
    wbufsize = -1  # one write for each answer

    def __init__(self, connection: socket.socket, owner: Server) -> None:
        self.owner = owner
        self.busy = False
        owner.register(connection, self)
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]  # no socketserver behind it

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.busy = False

    def handle_expect_100(self) -> bool:
        """Say so at once: answers are buffered, and the client waits for this one with its body."""
        go_on = super().handle_expect_100()
        self.wfile.flush()
        return go_on

    def do_GET(self) -> None:
        self.busy = True
        protocol = self.owner.protocol
        model, version = f"/v2/models/{protocol.model}", f"/versions/{protocol.version}"
        path = self.path.split("?")[0].rstrip("/")
        plain = path.replace(version, "", 1) if path.startswith(model + version) else path
        match plain:
            case "/v2":
                self._answer(200, protocol.server_metadata())
            case "/v2/health/live":
                self._answer(200, {"live": True})
            case "/v2/health/ready":
                self._answer(200, {"ready": True})
            case _ if plain == model:
                self._answer(200, protocol.model_metadata())
            case _ if plain == f"{model}/ready":
                self._answer(200, {"name": protocol.model, "ready": True})
            case _:
                self._answer(404, {"error": f"nothing at {path}; this agent serves {model}{version}"})

    def do_POST(self) -> None:
        self.busy = True
        body = self._read_body()
        if body is None:
            return
        protocol = self.owner.protocol
        model = f"/v2/models/{protocol.model}"
        if self.path not in (f"{model}/infer", f"{model}/versions/{protocol.version}/infer"):
            self._answer(404, {"error": f"nothing at {self.path}; this agent serves {model}/infer"})
            return
        self._answer(*_infer(protocol, body))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses by itself: a malformed request line, an unknown method."""
        self.close_connection = True
        self.request_version = self.protocol_version  # as yet it is 0.9, which has no headers
        self._answer(code, {"error": message or explain or self.responses[HTTPStatus(code)][0]})

    def _read_body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            self._answer(411, {"error": "Content-Length is needed"})
            return None
        if len(length) > LENGTH_DIGITS_MAX or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            self._answer(413, {"error": f"a request may have at most {BODY_BYTES_MAX} bytes"})
            return None
        return self.rfile.read(int(length))

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = msgspec.json.encode(document)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.owner.draining.is_set() or self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Requests are counted, not logged: an SD card has better things to do."""


def _infer(protocol: Protocol, body: bytes) -> tuple[int, dict[str, Any]]:
    try:
        return 200, protocol.infer(body)
    except BadRequest as exc:
        return 400, {"error": str(exc)}
    except WorkerError as exc:
        return 500, {"error": str(exc)}
    except Exception as exc:  # the guard of the connection: a client gets an answer, whatever happens
        log.exception("a request failed")
        return 500, {"error": f"this is a defect of the agent: {type(exc).__name__}"}


def _is_busy(handler: Handler | None) -> bool:
    return handler is not None and handler.busy


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)
