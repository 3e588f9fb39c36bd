"""The names and addresses by which this machine may be reached, for the certificates of its servers.

No name server is asked: a start must not wait for one that is away.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
_ELSEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses for documentation: by them the kernel tells which of its own it would send from."""
_LABEL: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}", re.IGNORECASE)
_NAME_CHARS: Final = 253


def find_hosts(given: Iterable[str]) -> list[str]:
    """Return what certificates name: this machine as it knows itself, and those ``given`` that are hosts
    (a wildcard such as 0.0.0.0 is none)."""
    name = socket.gethostname()
    local = [name, f"{name}.local"] if "." not in name else [name]
    found = [clean_host(host) for host in (*ALWAYS, *local, *_addresses(), *given)]
    return list(dict.fromkeys(host for host in found if host is not None))


def clean_host(text: str) -> str | None:
    """Return a host as certificates write it, none for what is no host that can be reached."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        good = len(text) <= _NAME_CHARS and all(_LABEL.fullmatch(label) for label in text.split("."))
        return text.lower() if good else None
    return None if address.is_unspecified else str(address)


def _addresses() -> list[str]:
    """Return the addresses that this machine sends from. Nothing is sent."""
    found: list[str] = []
    for family, elsewhere in _ELSEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            found.append(str(probe.getsockname()[0]))
    return found
