"""The names and addresses by which this machine may be reached, for the certificates of its servers.

No name server is asked: a start must not wait for one that is away.
"""

import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from fleet_cloud.addresses import clean_host

ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
_ELSEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses for documentation: by them the kernel tells which of its own it would send from."""


def find_hosts(given: Iterable[str]) -> list[str]:
    """Return what certificates name: this machine as it knows itself, and those ``given`` that are hosts
    (a wildcard such as 0.0.0.0 is none)."""
    name = socket.gethostname()
    local = [name, f"{name}.local"] if "." not in name else [name]
    found = [clean_host(host) for host in (*ALWAYS, *local, *_addresses(), *given)]
    return list(dict.fromkeys(host for host in found if host is not None))


def _addresses() -> list[str]:
    """Return the addresses that this machine sends from. Nothing is sent."""
    found: list[str] = []
    for family, elsewhere in _ELSEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            found.append(str(probe.getsockname()[0]))
    return found
