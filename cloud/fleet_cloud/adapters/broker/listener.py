"""Takes connections in: counts those that have not proved anything yet, and does their TLS handshake.

Who holds a place without proving who it is goes first when places run out, the oldest before: somebody who
opens many connections and says nothing cannot keep a device out, which needs its place for a moment only.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fleet_cloud.adapters.broker.notices import Notices
from fleet_cloud.adapters.broker.wire import Wire
from fleet_cloud.tls import RenewedTls

log = logging.getLogger(__name__)

UNPROVED_MAX: Final = 128
HANDSHAKE_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 2.0
PAUSE_S: Final = 0.1
"""After the machine had no file or memory left for a connection."""

SILENCE_UNTIL_PROBED_S: Final = 60
WRITE_UNANSWERED_MAX_MS: Final = 60_000

Serve = Callable[[Wire, Callable[[], None]], Awaitable[None]]
"""Serves one connection; calls what it is given when the client proved itself."""


class Listener:
    """Reads the certificates' files anew for each connection."""

    def __init__(self, listening: socket.socket, tls: RenewedTls, serve: Serve) -> None:
        self._listening, self._tls, self._serve = listening, tls, serve
        self._unproved: dict[asyncio.Task[None], None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken: dict[asyncio.Task[None], socket.socket] = {}
        """Sockets that no transport has yet, by their task, which may be cancelled before it begins."""
        self._notices = Notices()

    async def run(self) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, address = await loop.sock_accept(self._listening)
            except OSError as exc:
                self._notices.say(f"no connection can be taken: {exc}")
                await asyncio.sleep(PAUSE_S)
            else:
                self._start(connected, str(address[0]))

    def _start(self, connected: socket.socket, address: str) -> None:
        if len(self._unproved) >= UNPROVED_MAX:
            oldest = next(iter(self._unproved))
            del self._unproved[oldest]
            oldest.cancel()
            self._notices.say(f"more than {UNPROVED_MAX} connections prove nothing: the oldest is closed")
        task = asyncio.create_task(self._handle(connected, address))
        self._unproved[task], self._taken[task] = None, connected
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._unproved.pop(task, None)
        self._tasks.discard(task)
        if (left := self._taken.pop(task, None)) is not None:
            left.close()
        if not task.cancelled() and (error := task.exception()):
            log.error("a connection ended by a defect: %r", error)

    async def _handle(self, connected: socket.socket, address: str) -> None:
        task: Any = asyncio.current_task()
        try:
            wire = await self._shake_hands(connected)
        except (OSError, TimeoutError) as exc:
            self._notices.say(f"a client at {address} is refused by TLS: {exc or 'no handshake in time'}")
            return
        del self._taken[task]
        try:
            await self._serve(wire, lambda: self._unproved.pop(task, None))
        except ConnectionError:
            pass
        finally:
            await wire.close()

    async def _shake_hands(self, connected: socket.socket) -> Wire:
        loop = asyncio.get_running_loop()
        connected.setblocking(False)
        _watch(connected)
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            connected,
            ssl=self._tls.make_context(),
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
        )
        return Wire(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


def _watch(connected: socket.socket) -> None:
    """Have the kernel find out when the other end is gone without a word."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", SILENCE_UNTIL_PROBED_S),
        ("TCP_KEEPINTVL", SILENCE_UNTIL_PROBED_S // 4),
        ("TCP_USER_TIMEOUT", WRITE_UNANSWERED_MAX_MS),
    ):
        if (option := getattr(socket, name, None)) is not None:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
