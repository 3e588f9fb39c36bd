"""One connection to a worker, for whoever asks it: a request in one write, its answer read back. Just as
much of HTTP/1.1 as the worker speaks, over TCP or a Unix socket."""

import select
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from fleet_agent.errors import InferenceError

READ_BYTES: Final = 64 * 1024
HEAD_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX: Final = 256 * 1024 * 1024
PORT_MAX: Final = 65_535
UNIX: Final = "unix:"
HTTP: Final = "http://"


class Closed(Exception):
    """The connection ended before the first byte of an answer: it may have been closed while idle."""


@dataclass(frozen=True)
class Address:
    """``host`` and ``port``, or ``path`` of a Unix socket."""

    host: str = "localhost"
    port: int = 80
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``http://HOST:PORT`` or ``unix:/PATH``. Raises `ValueError`."""
        if text.startswith(UNIX) and len(text) > len(UNIX):
            return cls(path=text[len(UNIX) :])
        host, colon, port = text.removeprefix(HTTP).rstrip("/").rpartition(":")
        if text.startswith(HTTP) and colon and host and port.isdecimal() and int(port[:6]) <= PORT_MAX:
            return cls(host=host.strip("[]"), port=int(port))
        raise ValueError(f"an address is http://HOST:PORT or unix:/PATH, got {text!r}")

    def connect(self, timeout_s: float) -> socket.socket:
        """Raises `OSError`."""
        if not self.path:
            connection = socket.create_connection((self.host, self.port), timeout_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout_s)
            connection.connect(self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def __str__(self) -> str:
        return f"{UNIX}{self.path}" if self.path else f"{HTTP}{self.host}:{self.port}"


@dataclass(frozen=True)
class Response:
    """Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: memoryview


class Wire:
    """A connection that is opened when it is needed, kept, and opened again after the agent closed it.
    ``again``: what broke on a kept connection is asked once more over a new one."""

    def __init__(self, address: Address, timeout_s: float, *, again: bool = True) -> None:
        self._address, self._timeout_s, self._again = address, timeout_s, again
        self._host = f"Host: {address.host if not address.path else 'localhost'}\r\n".encode()
        self._connection: socket.socket | None = None

    def ask(self, method: str, path: str, headers: str = "", body: Sequence[bytes] = ()) -> Response:
        """Send a request and return its answer. ``headers``: whole lines. Raises `InferenceError`.

        What is asked here changes nothing on the agent: so it may be asked once more.
        """
        length = sum(map(len, body))
        head = f"{method} {path} HTTP/1.1\r\n".encode() + self._host
        if method == "POST":
            head += f"Content-Length: {length}\r\n".encode()
        parts = [head + headers.encode() + b"\r\n", *body]
        if _is_stale(self._connection):
            self.close()
        was_kept = self._connection is not None
        try:
            return self._ask_once(parts)
        except Closed:
            if not (was_kept and self._again):
                raise self._broken("it closes the connection instead of answering") from None
        try:
            return self._ask_once(parts)
        except Closed:
            raise self._broken("it closes the connection instead of answering") from None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ask_once(self, parts: Sequence[bytes]) -> Response:
        try:
            connection = self._connection = self._connection or self._connect()
            # An answer may be there although not all was taken: the agent refuses what is too large.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(b"".join(parts))
            response = self._read(connection)
        except TimeoutError as exc:
            self.close()
            raise InferenceError(
                f"the agent at {self._address} did not answer within {self._timeout_s:g} s",
                hint="is the model slow? give the client a longer timeout_s",
                code="inference.timeout",
            ) from exc
        except OSError as exc:
            self.close()
            raise Closed from exc
        except BaseException:
            self.close()
            raise
        if response.headers.get("connection", "").lower() == "close":
            self.close()
        return response

    def _connect(self) -> socket.socket:
        try:
            return self._address.connect(self._timeout_s)
        except TimeoutError:
            raise
        except OSError as exc:
            raise InferenceError(
                f"no agent can be reached at {self._address}: {exc}",
                hint="does it run, and is this its port (--http-port) or its inference.sock?",
                code="inference.unreachable",
            ) from exc

    def _read(self, connection: socket.socket) -> Response:
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > HEAD_BYTES_MAX:
                raise self._broken("its answer has no end of the head")
            part = connection.recv(READ_BYTES)
            if not part and not received:
                raise ConnectionResetError
            if not part:
                raise self._broken("its answer ends in the middle")
            received += part
        status, headers = self._parse(received[:end])
        length = headers.get("content-length", "")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            raise self._broken("its answer says no length")
        begin, whole = end + 4, end + 4 + int(length)
        if len(received) >= whole:
            return Response(status, headers, memoryview(received)[begin:whole])
        body = memoryview(bytearray(int(length)))
        here = len(received) - begin
        body[:here] = received[begin:]
        while here < len(body):
            count = connection.recv_into(body[here:])
            if not count:
                raise self._broken("its answer ends in the middle")
            here += count
        return Response(status, headers, body)

    def _parse(self, head: bytes) -> tuple[int, dict[str, str]]:
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise self._broken("what answers does not speak HTTP")
        parted = (line.partition(":") for line in lines)
        return int(words[1]), {name.lower(): value.strip() for name, _, value in parted}

    def _broken(self, what: str) -> InferenceError:
        return InferenceError(
            f"the agent at {self._address} cannot be understood: {what}",
            hint="is this the address of an agent?",
            code="inference.protocol",
        )


def _is_stale(connection: socket.socket | None) -> bool:
    """The agent says nothing unasked: what there is to read is the end."""
    if connection is None:
        return False
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    return bool(poller.poll(0))
