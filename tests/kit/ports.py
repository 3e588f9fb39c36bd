"""Free ports on loopback."""

import random
import socket
from typing import Final

LOW: Final = 10_000
HIGH: Final = 32_000
"""Below the ports that the kernel gives to connections: one of the many that come and go would take the port
before its server listens. At random, since other tests look for ports at the same time."""


def free_port() -> int:
    while True:
        port = random.SystemRandom().randrange(LOW, HIGH)
        if _can_listen(port):
            return port


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
