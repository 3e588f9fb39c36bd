"""Start a command in a network namespace of its own: no way leads out of it but the relays that are named.

``python -m tests.kit.cut_off PORT=SOCKET ... -- COMMAND``: inside, 127.0.0.1:PORT is what listens at the Unix
socket SOCKET outside, which knows no network namespaces; ``PORT=`` swallows whatever connects, as a firewall
does that drops; everything else refuses. Needs root, or user namespaces.
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWNET: Final = 0x40000000
SIOCSIFFLAGS: Final = 0x8914
IFF_UP: Final = 1
PR_SET_PDEATHSIG: Final = 1
PART_BYTES: Final = 65_536
FILLERS: Final = 4

Address = tuple[str, int] | str


def wrap(relays: "dict[int, Path]", command: Sequence[str], *, swallowed: Sequence[int] = ()) -> list[str]:
    """Return the words that start ``command`` cut off."""
    named = [*(f"{port}={path}" for port, path in relays.items()), *(f"{port}=" for port in swallowed)]
    return [sys.executable, "-m", "tests.kit.cut_off", *named, "--", *command]


@contextmanager
def relayed(path: Path, port: int) -> Iterator[Path]:
    """Outside: let what is connected at the Unix socket ``path`` reach 127.0.0.1:``port``."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        thread = threading.Thread(target=_relay_all, args=(listener, ("127.0.0.1", port)))
        thread.start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def main(words: Sequence[str]) -> None:
    """The relays run in a child, so that the command keeps this process, its id and its signals."""
    end = words.index("--")
    _leave_network()
    with ExitStack() as stack:
        listeners = []
        for word in words[:end]:
            port, _, path = word.partition("=")
            listener = socket.create_server(("127.0.0.1", int(port)), backlog=64 if path else 0)
            listeners.append((stack.enter_context(listener), path))
        parent = os.getpid()
        if os.fork() == 0:
            _end_with(parent)
            fillers = [_fill(listener) for listener, path in listeners if not path]
            for listener, path in listeners:
                if path:
                    threading.Thread(target=_relay_all, args=(listener, path)).start()
            threading.Event().wait()
            del fillers
    os.execvp(words[end + 1], list(words[end + 1 :]))  # noqa: S606 - the command that a test names


def _leave_network() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace can be made")
    with socket.socket() as probe:
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


def _end_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _fill(listener: socket.socket) -> list[socket.socket]:
    """Fill the queue of a listener that nobody serves: from then on it answers nothing at all."""
    fillers = [socket.socket() for _ in range(FILLERS)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    return fillers


def _relay_all(listener: socket.socket, address: Address) -> None:
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            break
        server = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        sockets += [client, server]
        try:
            server.connect(address)
        except OSError:
            client.close()
            continue
        threads += [
            threading.Thread(target=_pipe, args=pair) for pair in ((client, server), (server, client))
        ]
        for thread in threads[-2:]:
            thread.start()
    for sock in sockets:
        _shut(sock)
    for thread in threads:
        thread.join()
    for sock in sockets:
        sock.close()


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(PART_BYTES):
            sink.sendall(part)
    _shut(source)
    _shut(sink)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main(sys.argv[1:])
