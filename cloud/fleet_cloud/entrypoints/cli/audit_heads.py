"""The end of each audit log as this person last saw it: what was there once must be there still."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from fleet_shared.durable import write_durably

FILE: Final = "audit-heads.json"


class Head(msgspec.Struct, frozen=True):
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class AuditHeads:
    """``folder``: where a person's contexts lie. What cannot be read was never seen."""

    folder: Path

    def get(self, server: str) -> Head | None:
        return self._load().get(server)

    def put(self, server: str, head: Head) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        heads = {**self._load(), server: head}
        write_durably(self.folder / FILE, msgspec.json.format(msgspec.json.encode(heads)), mode=0o600)

    def _load(self) -> dict[str, Head]:
        try:
            return msgspec.json.decode((self.folder / FILE).read_bytes(), type=dict[str, Head])
        except (OSError, msgspec.MsgspecError):
            return {}
