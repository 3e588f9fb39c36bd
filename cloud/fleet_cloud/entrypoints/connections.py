"""Connections to the API: how many there may be, and how long one may say nothing.

uvicorn keeps a connection that never finishes a request for ever, and one sender can open thousands. When a
process has no file left to open, nothing of it works any more: neither API nor broker nor database. So
connections take half of the files at most, one sender a quarter of those, and a request has `HEAD_S` to
begin.
"""

import asyncio
import logging
import resource
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from fleet_cloud.addresses import network_of

log = logging.getLogger(__name__)

HEAD_S: Final = 20.0
"""At least that long, and at most twice as long, the head of a request may take."""
CLOSING_LOOKS: Final = 15
"""So many times that long whoever reads slowly has for the end of an answer."""
FILES_MAX: Final = 65_536

Networks = Collection[IPv4Network | IPv6Network]


@dataclass(slots=True)
class Door:
    """``total`` connections ``open`` at once, and ``each`` of one sender but for ``proxies``, which speak for
    many. To be used from one thread."""

    total: int
    each: int
    proxies: Networks = ()
    open: int = 0
    _of: Counter[str] = field(default_factory=Counter)
    _told: bool = False

    def enter(self, sender: str) -> bool:
        """Tell whether one more may come in; who may must `leave`."""
        full = self.open >= self.total or (self._of[sender] >= self.each and not self._is_proxy(sender))
        if full:
            self._tell(sender)
            return False
        self.open += 1
        self._of[sender] += 1
        return True

    def leave(self, sender: str) -> None:
        self.open -= 1
        self._of[sender] -= 1
        if not self._of[sender]:
            del self._of[sender]
        self._told = self._told and self.open > self.total // 2

    def _is_proxy(self, sender: str) -> bool:
        try:
            return any(ip_address(sender) in network for network in self.proxies)
        except ValueError:
            return False

    def _tell(self, sender: str) -> None:
        """Once: a log that is filled fills the disk."""
        if self._of[sender] == 0:
            del self._of[sender]
        if not self._told:
            log.warning("too many connections to the API, the last from %s: more are closed", sender)
        self._told = True


def open_door(proxies: Networks) -> Door:
    """Return the door that fits what this process may open, which is raised to what it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(FILES_MAX, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    total = (FILES_MAX if soft == resource.RLIM_INFINITY else min(FILES_MAX, soft)) // 2
    return Door(total, max(1, total // 4), proxies)


def guarded(door: Door, head_s: float = HEAD_S) -> type[H11Protocol]:
    """Return uvicorn's protocol, behind ``door``."""

    class Guarded(H11Protocol):
        _sender: str | None = None
        _seen: Any = None
        _timer: asyncio.TimerHandle | None = None
        _looks_left = CLOSING_LOOKS

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            peer = transport.get_extra_info("peername")
            sender = network_of(str(peer[0])) if peer else "unknown"
            admitted = door.enter(sender)
            super().connection_made(transport)
            if not admitted:
                transport.abort()
                return
            self._sender = sender
            self._timer = self.loop.call_later(head_s, self._check)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            if self._sender is not None:
                door.leave(self._sender)
                self._sender = None
            super().connection_lost(exc)

        def _check(self) -> None:
            """Let go of who has neither a request under way nor begun one since the last look. A connection
            that is being closed waits for its answer to be read."""
            idle = self.cycle is None or self.cycle.response_complete
            if self.transport.is_closing():
                self._looks_left -= 1
            elif idle and self.cycle is self._seen:
                self._looks_left = 0
            if not self._looks_left:
                self.transport.abort()
                return
            self._seen = self.cycle
            self._timer = self.loop.call_later(head_s, self._check)

    return Guarded
