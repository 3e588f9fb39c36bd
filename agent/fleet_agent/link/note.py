"""The last change of the link, on disk for a person who asks. Nothing depends on it, so it is not synced."""

import logging
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)


class LinkNote(msgspec.Struct, frozen=True, kw_only=True):
    """``reason``: why the broker is away. The stamp is of the change."""

    online: bool
    reason: str
    boot_id: str
    boot_ms: int
    wall_ms: int | None


def save_note(file: Path, note: LinkNote) -> None:
    beside = file.with_suffix(".new")
    try:
        beside.write_bytes(msgspec.json.encode(note))
        beside.replace(file)
    except (OSError, UnicodeError) as exc:
        log.debug("the state of the link is not noted: %s", exc)


def load_note(file: Path) -> LinkNote | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=LinkNote)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
