"""A TCP proxy that lets the answers of a server through at a given rate."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

PART_BYTES = 4096


@dataclass
class SlowProxy:
    port: int
    target_port: int
    bytes_per_s: float


@contextmanager
def slow_proxy(target_port: int, bytes_per_s: float) -> Iterator[SlowProxy]:
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = SlowProxy(listener.getsockname()[1], target_port, bytes_per_s)
    threading.Thread(target=_accept, args=(listener, proxy), daemon=True).start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, proxy: SlowProxy) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        try:
            server = socket.create_connection(("127.0.0.1", proxy.target_port))
        except OSError:
            client.close()
            continue
        threading.Thread(target=_pipe, args=(client, server, None), daemon=True).start()
        threading.Thread(target=_pipe, args=(server, client, proxy), daemon=True).start()


def _pipe(source: socket.socket, sink: socket.socket, proxy: SlowProxy | None) -> None:
    try:
        while part := source.recv(PART_BYTES):
            sink.sendall(part)
            if proxy is not None and len(part) > PART_BYTES // 4:
                time.sleep(len(part) / proxy.bytes_per_s)
    except OSError:
        pass
    finally:
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        source.close()
