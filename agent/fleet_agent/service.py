"""What systemd hears of the agent (sd_notify(3)): a few datagrams to the socket that it names.

``WATCHDOG=1`` is sent by the supervisor's loop after a turn, and by nobody else: a loop that is held up
feeds no watchdog, however alive the process and its other threads are. Without systemd nothing is sent.
"""

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

FEEDS: Final = 4
"""So many times within the watchdog's time, so that a late turn ends nothing."""


@dataclass
class Service:
    """``address``: where systemd listens, none without it. ``feed_every_s``: none without a watchdog. Time
    is on the boot clock."""

    address: str | None = None
    feed_every_s: float | None = None
    _socket: socket.socket | None = None
    _feed_at_s: float | None = None
    _status: str = ""

    def started(self) -> None:
        self._send("READY=1")

    def turned(self, now_s: float, status: str) -> None:
        """The loop made a whole turn."""
        if status != self._status and self._send(f"STATUS={status}"):
            self._status = status
        if self.feed_every_s is None:
            return
        if self._feed_at_s is None or now_s >= self._feed_at_s:
            self._feed_at_s = now_s + self.feed_every_s
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")
        if self._socket is not None:
            self._socket.close()
        self._socket = self.address = None

    def _send(self, text: str) -> bool:
        if self.address is None:
            return False
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            # An @ stands for the zero byte of an abstract address.
            name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
            self._socket.sendto(text.replace("\n", " ").encode(), name)
        except OSError:
            return False  # systemd is away or busy; the next one may come through
        return True


def take_service(environment: MutableMapping[str, str]) -> Service:
    """Return what the environment says of systemd, and take it out of there: children are not the service."""
    address = environment.pop("NOTIFY_SOCKET", "") or None
    microseconds = environment.pop("WATCHDOG_USEC", "")
    pid = environment.pop("WATCHDOG_PID", "")
    watched = microseconds.isdigit() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
    return Service(address, int(microseconds) / 1e6 / FEEDS if watched else None)
