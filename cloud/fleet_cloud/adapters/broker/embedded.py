"""The embedded broker: MQTT 3.1.1 over mutual TLS, in a thread of its own; for a first run and small labs."""

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from fleet_cloud.adapters.broker.broker import FleetBroker
from fleet_cloud.adapters.broker.listener import Listener
from fleet_cloud.errors import SettingsError, Unavailable
from fleet_cloud.services.ports import TlsFiles
from fleet_cloud.tls import RenewedTls
from fleet_shared.names import DeviceId, Digest
from fleet_shared.topics import Topics

log = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 15.0
BACKLOG: Final = 256


class EmbeddedBroker:
    """Runs from construction to `close`; is the `BrokerAccess` of its devices, and lets none in before the
    first `sync`. Raises `SettingsError` (``port.in_use``, ``port.refused``, ``tls.files``)."""

    def __init__(self, host: str, port: int, topics: Topics, tls: TlsFiles) -> None:
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._topics, self._tls = topics, RenewedTls(tls, server=True)
        self._listening = _listen(host, port)
        self.port = int(self._listening.getsockname()[1])
        self.loopback: Final = _find_loopback(self._listening)
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._live, name="broker", daemon=True)
        self._thread.start()
        self._started.result(START_TIMEOUT_S)

    def sync(self, devices: Iterable[tuple[DeviceId, Digest]]) -> None:
        known = dict(devices)
        self._do(lambda: self._broker.sync(known))

    def admit(self, device: DeviceId, public_key_sha256: Digest) -> None:
        self._do(lambda: self._broker.admit(device, public_key_sha256))

    def revoke(self, device: DeviceId) -> None:
        self._do(lambda: self._broker.revoke(device))

    def close(self) -> None:
        with suppress(RuntimeError):  # it ended before
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._listening.close()

    def _live(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception as exc:
            if self._started.done():
                log.exception("the embedded broker has ended by a defect")
            else:
                self._started.set_exception(exc)

    async def _run(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda _, context: log.debug("%s", context))
        self._broker = FleetBroker(self._topics)
        await self._broker.start()
        accepting = asyncio.create_task(Listener(self._listening, self._tls, self._broker.serve).run())
        self._started.set_result(None)
        await self._ended.wait()
        accepting.cancel()
        await self._broker.shutdown()

    def _do(self, act: Callable[[], None]) -> None:
        """Have something done in the broker's thread, and return when it is done."""

        async def do() -> None:
            act()

        if not self._thread.is_alive():
            raise _gone()
        try:
            asyncio.run_coroutine_threadsafe(do(), self._loop).result(START_TIMEOUT_S)
        except TimeoutError as exc:
            raise _gone() from exc


def _gone() -> Unavailable:
    return Unavailable(
        "the embedded broker does not answer",
        hint="restart the controller; its log says how the broker ended",
        code="broker.unreachable",
    )


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        everywhere = address[0] == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server(
            (str(address[0]), port), family=family, backlog=BACKLOG, dualstack_ipv6=everywhere
        )
    except (OSError, UnicodeError) as exc:
        in_use = isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE
        raise SettingsError(
            f"port {port} on {host!r} for the embedded broker cannot be listened on: {exc}",
            hint="choose another: --broker-port, or name your broker: --broker mqtt://host"
            if in_use
            else "broker_host is an address of this machine; ports below 1024 need rights",
            code="port.in_use" if in_use else "port.refused",
        ) from exc
    listening.setblocking(False)
    return listening


def _find_loopback(listening: socket.socket) -> str:
    """Return where this machine reaches what listens on every address."""
    ipv4_too = listening.family == socket.AF_INET or not listening.getsockopt(
        socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
    )
    return "127.0.0.1" if ipv4_too else "::1"
