"""What a controller leaves in its data folder for commands on the same machine: where it listens, by which
certificates to know it, and a token of an admin.

Whoever can read the folder can read the keys of the controller in it as well: the token gives away nothing.
It ends when its file is removed and the controller starts again, with another.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from fleet_cloud.errors import SettingsError
from fleet_shared.durable import write_durably

ADDRESS_FILE: Final = "local.json"
TOKEN_FILE: Final = "admin-token"  # noqa: S105  the name of its file
TOKEN_CHARACTERS_MIN: Final = 32


class _Address(msgspec.Struct, frozen=True):
    server: str
    ca_file: str | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class LocalController:
    """``exact``: ``ca_file`` begins with the certificate of the controller itself, whatever names it has."""

    server: str
    token: str
    ca_file: str | None
    exact: bool = False


def default_data() -> str:
    """Return where the controller's state lives: /var/lib for root, else below the home folder."""
    if os.geteuid() == 0:
        return "/var/lib/fleet"
    return str(Path.home() / ".local" / "share" / "fleet")


def load_local(data: Path) -> LocalController | None:
    """Return the controller that runs, or ran last, on ``data``; none where there is none, or where it is
    somebody else's."""
    try:
        address = msgspec.json.decode((data / ADDRESS_FILE).read_bytes(), type=_Address)
        token = (data / TOKEN_FILE).read_text().strip()
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    return LocalController(address.server, token, address.ca_file, address.exact)


def write_address(data: Path, server: str, ca_file: Path | None, *, exact: bool = False) -> None:
    address = _Address(server, None if ca_file is None else str(ca_file.absolute()), exact)
    write_durably(data / ADDRESS_FILE, msgspec.json.encode(address), mode=0o600)


def keep_admin_token(data: Path) -> str:
    """Return the token in ``data``, made at the first start. Raises `SettingsError` for one that somebody
    else may read, or that could be guessed."""
    path = data / TOKEN_FILE
    if not path.exists():
        write_durably(path, f"fleet_{secrets.token_urlsafe(32)}\n".encode(), mode=0o600)
    token = path.read_text().strip()
    if path.stat().st_mode & 0o077 or len(token) < TOKEN_CHARACTERS_MIN:
        raise SettingsError(
            f"{path} is readable by others, or too short to be a secret",
            hint="remove it: the controller makes another at its start",
            code="admin.token",
        )
    return token
