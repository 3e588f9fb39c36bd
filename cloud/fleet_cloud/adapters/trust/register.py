"""The register of identities: one small file for each device, beside the authority's keys."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fleet_cloud.errors import SettingsError
from fleet_cloud.services.ports import RegisteredDevice
from fleet_shared.durable import write_durably
from fleet_shared.names import DeviceId, Digest


class FolderRegister:
    """Implements `IdentityRegister`. A device's id is safe in a file name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, entry: RegisteredDevice) -> None:
        write_durably(self._file(entry.device), json.dumps(asdict(entry)).encode(), mode=0o600)

    def get(self, device: DeviceId) -> RegisteredDevice | None:
        file = self._file(device)
        return _read(file) if file.exists() else None

    def all(self) -> Sequence[RegisteredDevice]:
        return [_read(file) for file in sorted(self._folder.glob("*.json"))]

    def _file(self, device: DeviceId) -> Path:
        return self._folder / f"{device}.json"


def _read(file: Path) -> RegisteredDevice:
    try:
        read = json.loads(file.read_bytes())
        return RegisteredDevice(
            device=DeviceId(str(read["device"])),
            public_key_sha256=Digest(str(read["public_key_sha256"])),
            serial=f"{int(read['serial'], 16):x}",
            expires_ms=int(read["expires_ms"]),
            revoked_ms=None if read["revoked_ms"] is None else int(read["revoked_ms"]),
        )
    except (ValueError, TypeError, KeyError) as exc:
        raise SettingsError(
            f"the entry {file} of the register of identities cannot be read: {exc!r}",
            hint="restore it from a backup, or remove it: the database knows the device too",
            code="trust.register",
        ) from exc
