"""The listening sockets for inference, and the way by which connections go from worker to worker: owned
by the supervisor, lent to each worker."""

import errno
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from fleet_agent.errors import SettingsError

BACKLOG: Final = 128
BIND_FOR_S: Final = 3.0
"""A worker of an agent that was killed holds the port until it has seen that it is alone."""
BIND_EVERY_S: Final = 0.1
_OTHER: Final = "choose another: --http-port, or FLEET_AGENT_HTTP_PORT; 0 takes a free one"


class Listeners:
    """TCP on loopback and a Unix socket in the state folder. Open for as long as the agent runs,
    so that a swap of workers closes nothing. Raises `SettingsError` (``port.*``).

    The pair carries connections that wait for their next request from a worker that leaves to the next one
    (``fleet_agent.worker.handover``); what is in it is nobody's, and waits."""

    def __init__(self, port: int, unix_path: Path, *, bind_for_s: float = BIND_FOR_S) -> None:
        self._tcp = _listen_tcp(port, time.monotonic() + bind_for_s)
        self._unix_path = unix_path
        self._unix = _listen_unix(unix_path)
        self._pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    @property
    def port(self) -> int:
        return int(self._tcp.getsockname()[1])

    @property
    def fds(self) -> tuple[int, ...]:
        """All that a worker is lent: it tells them apart by itself."""
        sockets = (self._tcp, self._unix, *self._pair)
        return tuple(sock.fileno() for sock in sockets if sock is not None)

    def close(self) -> None:
        self._tcp.close()
        for end in self._pair:
            end.close()
        if self._unix is not None:
            self._unix.close()
            with suppress(OSError):
                self._unix_path.unlink()


def _listen_tcp(port: int, deadline_s: float) -> socket.socket:
    while True:
        try:
            return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise SettingsError(
                    f"port {port} for inference cannot be opened: {exc}", hint=_OTHER, code="port.refused"
                ) from exc
            if time.monotonic() >= deadline_s:
                raise SettingsError(
                    f"port {port} for inference is in use: {exc}", hint=_OTHER, code="port.in_use"
                ) from exc
        time.sleep(BIND_EVERY_S)


def _listen_unix(path: Path) -> socket.socket | None:
    """Return the Unix socket; none where the path is longer than the kernel takes (107 bytes), or the
    disk is read-only."""
    with suppress(OSError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        return None
    sock.listen(BACKLOG)
    return sock
