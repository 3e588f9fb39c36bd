"""The worker's line to its supervisor."""

import os
import queue
import socket
import threading
from contextlib import suppress

import msgspec

from fleet_agent.worker.protocol import FromWorker


class Control:
    """One thread does nothing but read, from the first moment on: when the line is cut there is
    nobody to work for, and the process ends there and then. A worker that went on loading would
    hold the port of the next agent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.Lock()
        threading.Thread(target=self._read_lines, name="control", daemon=True).start()

    def read(self) -> bytes:
        """Return the next line."""
        return self._lines.get()

    def say(self, message: FromWorker) -> None:
        with self._lock, suppress(OSError):  # the reader ends this process
            self._connection.sendall(msgspec.json.encode(message) + b"\n")

    def _read_lines(self) -> None:
        with suppress(OSError), self._connection.makefile("rb") as reader:
            for line in reader:
                self._lines.put(line)
        os._exit(0)
