"""amqtt in a thread of its own: MQTT 3.1.1, on loopback only.

It knows no identities: whoever reaches it may publish as anybody, which is why it listens on
loopback, and why devices believe signatures and not the broker.
"""

import asyncio
import logging
import socket
import threading
from typing import Final

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig

from fleet_cloud.errors import SettingsError

START_TIMEOUT_S: Final = 15.0
HOST: Final = "127.0.0.1"


class OpenBroker:
    """Runs from construction to `close`. Raises `SettingsError` (``port.in_use``)."""

    def __init__(self, port: int) -> None:
        self.port = _check_port(port)
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="broker", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(START_TIMEOUT_S)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._broker.shutdown(), self._loop).result(START_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._broker = Broker(
            BrokerConfig.from_dict(
                {
                    "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{self.port}"}},
                    "plugins": {
                        "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
                    },
                }
            )
        )
        await self._broker.start()


def _check_port(port: int) -> int:
    """Return a port that can be listened on; 0 takes a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            raise SettingsError(
                f"port {port} for the embedded broker is in use",
                hint="choose another: --broker-port, or name your broker: --broker mqtt://host",
                code="port.in_use",
            ) from exc
        return int(probe.getsockname()[1])
