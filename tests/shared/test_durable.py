"""Durable writes, as the kernel sees them: the calls that make a power cut harmless, in their order."""

import os
import re
import stat
from pathlib import Path

import pytest

from fleet_shared.durable import remove_tree, sync_folder, write_durably
from tests.kit.disk_events import DiskEvent, listening


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed from now on; everything still happens."""
    seen: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def note_fsync(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        seen.append(f"fsync {'folder' if is_folder else f'file of {os.fstat(handle).st_size}'}")
        fsync(handle)

    def note_rename(self: Path, target: Path) -> Path:
        seen.append(f"rename to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_rename)
    return seen


def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, calls: list[str]
) -> None:
    write_durably(tmp_path / "record.json", [b"new", b" content"], mode=0o640)
    assert calls == ["fsync file of 11", "rename to record.json", "fsync folder"]
    assert (tmp_path / "record.json").read_bytes() == b"new content"
    assert (tmp_path / "record.json").stat().st_mode & 0o777 == 0o640


def test_a_write_that_fails_neither_renames_nor_syncs(tmp_path: Path, calls: list[str]) -> None:
    def broken() -> object:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_durably(tmp_path / "record.json", broken())  # type: ignore[arg-type]
    assert calls == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_synced(tmp_path: Path, calls: list[str]) -> None:
    sync_folder(tmp_path)
    assert calls == ["fsync folder"]
    with pytest.raises(NotADirectoryError):
        sync_folder(Path(__file__))


def test_every_operation_is_told_before_and_after(tmp_path: Path) -> None:
    told: list[str] = []

    def hear(event: DiskEvent) -> None:
        name = re.sub(r"[0-9a-f]{16}", "RANDOM", Path(event.path).name)
        told.append(f"{event.moment} {event.operation} {name}")

    with listening(hear):
        write_durably(tmp_path / "record.json", b"content")
    temporary = ".record.json.RANDOM.tmp"
    steps = [("create", temporary), ("write", temporary), ("fsync", temporary), ("rename", temporary)]
    steps.append(("fsync-folder", tmp_path.name))
    assert told == [f"{moment} {step} {name}" for step, name in steps for moment in ("before", "after")]


def test_who_listens_can_refuse_and_nothing_is_left(tmp_path: Path) -> None:
    def refuse(event: DiskEvent) -> None:
        if event.operation == "fsync":
            raise OSError(28, "No space left on device")

    with listening(refuse), pytest.raises(OSError, match="No space"):
        write_durably(tmp_path / "record.json", b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    modes: list[int] = []

    def look(event: DiskEvent) -> None:
        if event.moment == "after" and event.operation in ("create", "write"):
            modes.append(Path(event.path).stat().st_mode & 0o777)

    with listening(look):
        write_durably(tmp_path / "key.pem", b"secret", mode=0o600)
    assert modes == [0o600, 0o600]


def test_a_tree_is_removed_with_all_that_is_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"stays")
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "below" / "file").write_bytes(b"goes")
    (tmp_path / "tree" / "link").symlink_to(outside)
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "never there")
    assert list(tmp_path.iterdir()) == [outside]
