"""Durable writes, as the kernel sees them: the calls that make a power cut harmless, in their order."""

import os
import stat
from pathlib import Path

import pytest

from fleet_shared.durable import sync_folder, write_durably


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
