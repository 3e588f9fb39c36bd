"""An HTTP server on a Unix socket that answers each request as a script says, or breaks off."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import responses
from pathlib import Path
from typing import Final

BREAK: Final = "break"
"""Close the connection when the request has arrived."""
SILENT: Final = "silent"
"""Answer nothing, and keep the connection."""


class ScriptedHttp:
    """``script``: for each request a status and a body, followed by whether the connection is closed
    after it; or `BREAK`, or `SILENT`."""

    def __init__(self, path: Path, script: Sequence[tuple[int, bytes, bool] | str]) -> None:
        self.requests: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self._script = list(script)
        self._kept: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def running(self) -> Iterator["ScriptedHttp"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._thread.join(10)
            for connection in self._kept:
                connection.close()

    def _run(self) -> None:
        while self._script:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        while self._script and (head := reader.readline()):
            headers = {}
            while (line := reader.readline()) not in {b"\r\n", b""}:
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            self.headers.append(headers)
            self.requests.append(head.strip() + b" " + reader.read(int(headers.get("content-length", "0"))))
            step = self._script.pop(0)
            if step == SILENT:
                self._kept.append(connection)
                break
            if isinstance(step, str):
                connection.close()
                break
            status, body, closes = step
            close = b"Connection: close\r\n" if closes else b""
            connection.sendall(
                f"HTTP/1.1 {status} {responses[status]}\r\nContent-Length: {len(body)}\r\n".encode()
                + close + b"\r\n" + body
            )  # fmt: skip
            if closes:
                connection.close()
                break
        reader.close()
        if connection not in self._kept:
            connection.close()
