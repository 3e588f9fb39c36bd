"""An inference server in this process, over real sockets."""

import http.client
import socket
from pathlib import Path

from fleet_agent.worker.oip import Protocol
from fleet_agent.worker.server import Server
from fleet_cloud.factory.package import Package
from tests.kit.engine import HeldModel, hold, load_engine, write_slot
from tests.kit.waiting import wait_for


class Served:
    """A server on a socket that outlives it, as the supervisor's does. ``pair``: with the way over which
    connections go to the next server. ``unix_path``: listen there instead of on loopback."""

    def __init__(
        self, folder: Path, connections_max: int = 64, *, pair: bool = False, unix_path: Path | None = None
    ) -> None:
        self.unix_path = unix_path
        self.listener, self.port = _listen(unix_path)
        self.pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if pair else ()
        self.model: HeldModel
        self.server = self.take_over(folder, connections_max)

    def take_over(
        self, folder: Path, connections_max: int = 64, *, package: Package | None = None, **named: str
    ) -> Server:
        """Start another server on the same sockets; ``named``: ``model`` or ``version``."""
        engine = load_engine(write_slot(folder, package, **named))
        self.model = hold(engine)
        self.server = Server(Protocol(engine), [self.listener, *self.pair], connections_max)
        self.server.start()
        return self.server

    @property
    def address(self) -> str:
        return f"unix:{self.unix_path}" if self.unix_path else f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        if not self.server.draining.is_set():
            self.server.drain(0.1)
        wait_for("all connections to end", lambda: not self.server._open)
        for one in (self.listener, *self.pair):
            one.close()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)


def _listen(unix_path: Path | None) -> tuple[socket.socket, int]:
    if unix_path is None:
        listener = socket.create_server(("127.0.0.1", 0))
        return listener, int(listener.getsockname()[1])
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(unix_path))
    listener.listen(128)
    return listener, 0
