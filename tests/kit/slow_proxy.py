"""A TCP proxy that lets the answers of a server through at a given rate."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PART_BYTES = 4096


@dataclass
class SlowProxy:
    """Every socket and thread that it opens is ended with it."""

    port: int
    target_port: int
    bytes_per_s: float
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: bool = False
    _sockets: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def accept_all(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                client.close()
                continue
            self._join(client, server)

    def close(self) -> None:
        with self._lock:
            self._closing = True
            sockets, threads = list(self._sockets), list(self._threads)
        for sock in sockets:
            _shut(sock)
        for thread in threads:
            thread.join()
        for sock in sockets:
            sock.close()

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        there = threading.Thread(target=_pipe, args=(client, server, None))
        back = threading.Thread(target=_pipe, args=(server, client, self.bytes_per_s))
        with self._lock:
            self._sockets += [client, server]
            if self._closing:
                client.close()
                server.close()
                return
            self._threads += [there, back]
            there.start()
            back.start()


@contextmanager
def slow_proxy(target_port: int, bytes_per_s: float) -> Iterator[SlowProxy]:
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = SlowProxy(listener.getsockname()[1], target_port, bytes_per_s)
    accepting = threading.Thread(target=proxy.accept_all, args=(listener,))
    accepting.start()
    try:
        yield proxy
    finally:
        _shut(listener)
        accepting.join()
        proxy.close()
        listener.close()


def _pipe(source: socket.socket, sink: socket.socket, bytes_per_s: float | None) -> None:
    try:
        while part := source.recv(PART_BYTES):
            sink.sendall(part)
            if bytes_per_s is not None and len(part) > PART_BYTES // 4:
                time.sleep(len(part) / bytes_per_s)
    except OSError:
        pass
    finally:
        _shut(source)
        _shut(sink)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
