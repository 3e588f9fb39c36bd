"""The listening sockets for inference: owned by the supervisor, lent to each worker."""

import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from fleet_agent.errors import SettingsError

BACKLOG: Final = 128


class Listeners:
    """TCP on loopback and a Unix socket in the state folder. Open for as long as the agent runs,
    so that a swap of workers closes nothing."""

    def __init__(self, port: int, unix_path: Path) -> None:
        self._tcp = _listen_tcp(port)
        self._unix_path = unix_path
        self._unix = _listen_unix(unix_path)

    @property
    def port(self) -> int:
        return int(self._tcp.getsockname()[1])

    @property
    def fds(self) -> tuple[int, ...]:
        return tuple(sock.fileno() for sock in (self._tcp, self._unix) if sock is not None)

    def close(self) -> None:
        self._tcp.close()
        if self._unix is not None:
            self._unix.close()
            self._unix_path.unlink(missing_ok=True)


def _listen_tcp(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    except OSError as exc:
        raise SettingsError(
            f"port {port} for inference is in use: {exc}",
            hint="choose another: --http-port, or FLEET_AGENT_HTTP_PORT; 0 takes a free one",
            code="port.in_use",
        ) from exc


def _listen_unix(path: Path) -> socket.socket | None:
    """Return the Unix socket; none where the path is longer than the kernel takes (107 bytes)."""
    with suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        return None
    sock.listen(BACKLOG)
    return sock
