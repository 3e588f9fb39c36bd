"""Tokens of people on their own machine: in the keyring of the desktop, else in a file with mode 0600."""

import os
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet_cloud.errors import SettingsError
from fleet_shared.durable import write_durably

SERVICE: Final = "fleet"
FILE: Final = "tokens.json"


class SecretStore:
    """``folder`` is where the file lies. A secret is in one place: the file is looked at first."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE

    def get(self, name: str) -> str | None:
        found = self._load().get(name)
        return found if found is not None else _get_from_keyring(name)

    def put(self, name: str, secret: str) -> str:
        """Keep a secret; return where, for people."""
        kept = {key: value for key, value in self._load().items() if key != name}
        if _put_into_keyring(name, secret):
            self._save(kept)
            return "the keyring"
        self._save({**kept, name: secret})
        return str(self._file)

    def remove(self, name: str) -> None:
        kept = self._load()
        if name in kept:
            self._save({key: value for key, value in kept.items() if key != name})
        else:
            _remove_from_keyring(name)

    def _load(self) -> dict[str, str]:
        try:
            if self._file.stat().st_mode & 0o077:
                raise SettingsError(
                    f"{self._file} can be read by others",
                    hint=f"chmod 600 {self._file}; others may know the tokens in it: fleet token revoke",
                    code="context.permissions",
                )
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as exc:
            raise SettingsError(
                f"{self._file} cannot be read: {type(exc).__name__}",
                hint="remove it, and sign in again: fleet login URL",
                code="context.file",
            ) from exc

    def _save(self, secrets: dict[str, str]) -> None:
        if secrets or self._file.exists():
            write_durably(self._file, msgspec.json.encode(secrets), mode=0o600)


def _keyring() -> Any:
    """Return the desktop's keyring, none where there is none that keeps anything."""
    import keyring

    backend = keyring.get_keyring()
    return backend if backend.priority >= 1 else None


def _get_from_keyring(name: str) -> str | None:
    from keyring.errors import KeyringError

    try:
        backend = _keyring()
        found = None if backend is None else backend.get_password(SERVICE, name)
    except (KeyringError, RuntimeError, OSError):
        return None
    return found if isinstance(found, str) else None


def _put_into_keyring(name: str, secret: str) -> bool:
    from keyring.errors import KeyringError

    try:
        backend = _keyring()
        if backend is None:
            return False
        backend.set_password(SERVICE, name, secret)
    except (KeyringError, RuntimeError, OSError):
        return False
    return True


def _remove_from_keyring(name: str) -> None:
    from keyring.errors import KeyringError

    try:
        backend = _keyring()
        if backend is not None and backend.get_password(SERVICE, name) is not None:
            backend.delete_password(SERVICE, name)
    except (KeyringError, RuntimeError, OSError):
        return


def config_folder() -> Path:
    """Return where a person's contexts lie, as the XDG base directory specification says."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "fleet"
