"""The file in which the trust child keeps what this device believes; `status` and the supervisor read it."""

from pathlib import Path

import msgspec

from fleet_shared.durable import write_durably
from fleet_shared.messages.reported import TrustReport


class TrustNote(msgspec.Struct, frozen=True, kw_only=True):
    """What the controller is told, and what only the device needs: ``certificate_begins_ms``."""

    report: TrustReport = TrustReport()
    certificate_begins_ms: int | None = None

    @property
    def is_of_newest(self) -> bool:
        """Whether the certificate is of the newest authority: others are on their way out."""
        return self.report.issuer in self.report.authorities[:1]


def load_note(file: Path) -> TrustNote:
    """Return it; an empty one where nothing was noted yet."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=TrustNote)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return TrustNote()


def save_note(file: Path, note: TrustNote) -> None:
    if load_note(file) != note or not file.exists():
        write_durably(file, msgspec.json.encode(note))
