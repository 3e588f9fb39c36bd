"""A network cable between a device and a server, which a test pulls out and plugs in again."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PART_BYTES = 16_384


@dataclass
class Cable:
    """``port`` is where the device connects. `cut` ends what is open and refuses what is new; `pull` says
    nothing to anybody, as a cable that hangs in the air: connections stay, and nothing comes."""

    port: int
    target_port: int
    bytes_per_s: float | None = None
    bytes_passed: int = 0
    _mode: str = "plugged"
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sockets: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _plugged: threading.Event = field(default_factory=threading.Event)

    def cut(self) -> None:
        self._mode = "cut"
        self._plugged.clear()
        self._shut_all()

    def pull(self) -> None:
        self._mode = "pulled"
        self._plugged.clear()

    def plug(self) -> None:
        """What hung in the air is gone: both sides have to connect anew."""
        if self._mode == "pulled":
            self._shut_all()
        self._mode = "plugged"
        self._plugged.set()

    def accept_all(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._take(client)

    def close(self) -> None:
        self.cut()
        self._plugged.set()
        for thread in list(self._threads):
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _take(self, client: socket.socket) -> None:
        if self._mode == "cut":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port))
        except OSError:
            client.close()
            return
        with self._lock:
            self._sockets += [client, server]
            pairs = ((client, server), (server, client))
            rates = (None, self.bytes_per_s)
            threads = [
                threading.Thread(target=self._pipe, args=(*pair, rate))
                for pair, rate in zip(pairs, rates, strict=True)
            ]
            self._threads += threads
        for thread in threads:
            thread.start()

    def _pipe(self, source: socket.socket, sink: socket.socket, bytes_per_s: float | None) -> None:
        try:
            while part := source.recv(PART_BYTES):
                if self._mode == "pulled":
                    self._plugged.wait()
                    break
                sink.sendall(part)
                self.bytes_passed += len(part)
                if bytes_per_s is not None:
                    time.sleep(len(part) / bytes_per_s)
        except OSError:
            pass
        finally:
            _shut(source)
            _shut(sink)

    def _shut_all(self) -> None:
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            _shut(sock)


@contextmanager
def cable_to(target_port: int, bytes_per_s: float | None = None) -> Iterator[Cable]:
    listener = socket.create_server(("127.0.0.1", 0))
    cable = Cable(listener.getsockname()[1], target_port, bytes_per_s)
    cable._plugged.set()
    accepting = threading.Thread(target=cable.accept_all, args=(listener,))
    accepting.start()
    try:
        yield cable
    finally:
        _shut(listener)
        accepting.join()
        cable.close()
        listener.close()


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
