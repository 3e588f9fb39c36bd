"""What systemd hears: the socket of ``Type=notify`` services."""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.waiting import wait_for


@dataclass
class NotifySocket:
    """``heard``: all datagrams so far."""

    path: Path
    heard: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.setblocking(False)

    def environment(self, watchdog_s: float) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}

    def read(self) -> list[str]:
        """Return what came since the last look."""
        new = []
        while True:
            try:
                new.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                self.heard += new
                return new

    def wait_for(self, text: str) -> None:
        wait_for(f"systemd to hear {text}", lambda: text in self.read())

    def close(self) -> None:
        self._socket.close()
        os.unlink(self.path)  # noqa: PTH108
