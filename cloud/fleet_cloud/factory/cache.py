"""The folder of what builds have computed: one folder for each key, whole or not there, bounded.

It is a cache: whatever is wrong with it (damaged, away, full) costs time, never a build. Imports no
TensorFlow.
"""

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from fleet_cloud.errors import SettingsError

FOLDER_VARIABLE: Final = "FLEET_CACHE"
LIMIT_VARIABLE: Final = "FLEET_CACHE_MAX_BYTES"
LIMIT_BYTES: Final = 5_000_000_000
STALE_S: Final = 24 * 3600
"""A folder that was begun so long ago will not be finished: its build was killed."""

_CONTENTS: Final = "contents.json"
_BEGUN: Final = ".begun-"
_KEY: Final = re.compile(r"[0-9a-f]{64}")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """``label``: what it is, for people. ``files``: sha256 by name."""

    label: str
    files: dict[str, str]


@dataclass(frozen=True)
class Kept:
    """An entry as it lies there. ``used``: seconds since the epoch."""

    key: str
    label: str
    size_bytes: int
    used: float


def find_folder(environment: Mapping[str, str]) -> Path:
    """Return where builds are kept: below ``FLEET_CACHE``, else below the user's folder of caches."""
    if given := environment.get(FOLDER_VARIABLE):
        return Path(given) / "build"
    home = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "fleet" / "build"


def find_search_folder(environment: Mapping[str, str]) -> Path:
    """Return where searches keep their trials: beside what builds keep."""
    return find_folder(environment).parent / "search"


def find_limit(environment: Mapping[str, str]) -> int:
    """Return how many bytes may be kept; raise `SettingsError` for what is no number of bytes."""
    given = environment.get(LIMIT_VARIABLE, "")
    if not given:
        return LIMIT_BYTES
    if not given.isascii() or not given.isdigit():
        raise SettingsError(
            f"{LIMIT_VARIABLE} is {given[:40]!r}, expected a number of bytes", hint="5000000000 are 5 GB"
        )
    return int(given)


class Cache:
    """``warn`` is told what is wrong, and what that means for a build."""

    def __init__(self, folder: Path, warn: Callable[[str], None], limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder, self._warn, self._limit_bytes = folder, warn, limit_bytes
        self._writes = True

    def load(self, key: str) -> dict[str, bytes] | None:
        """Return the files of an entry, which counts as used now; none when it is not there or damaged."""
        folder = self._folder / key
        was_there = folder.exists()
        try:
            entry = msgspec.json.decode((folder / _CONTENTS).read_bytes(), type=Entry)
            files = {name: (folder / name).read_bytes() for name in entry.files}
        except (FileNotFoundError, NotADirectoryError):
            if was_there and folder.exists():  # else another build has just kept it
                self.refuse(key, "a file is missing")
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
            self.refuse(key, str(exc))
            return None
        for name, content in files.items():
            if _digest(content) != entry.files[name]:
                self.refuse(key, f"{name} has changed")
                return None
        with suppress(OSError):
            os.utime(folder)
        return files

    def has(self, key: str) -> bool:
        """Tell whether an entry is there; it may be damaged."""
        return (self._folder / key / _CONTENTS).is_file()

    def refuse(self, key: str, why: str) -> None:
        """Throw an entry away that cannot be used."""
        self._warn(f"a kept result cannot be read and is made anew ({key[:12]} in {self._folder}: {why})")
        shutil.rmtree(self._folder / key, ignore_errors=True)

    def keep(self, key: str, files: Mapping[str, bytes], label: str = "") -> None:
        """Keep an entry, whole or not at all, and drop the longest unused ones above the limit."""
        if not self._writes:
            return
        try:
            self._write(key, files, label)
            prune(self._folder, self._limit_bytes, spared=key)
        except OSError as exc:
            self._writes = False
            self._warn(
                f"results are not kept any more: {self._folder}: {exc.strerror} (the build goes on; if it is "
                f"interrupted, it begins anew)"
            )

    def _write(self, key: str, files: Mapping[str, bytes], label: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        begun = Path(tempfile.mkdtemp(prefix=_BEGUN, dir=self._folder))
        try:
            entry = Entry(label=label, files={name: _digest(content) for name, content in files.items()})
            for name, content in {**files, _CONTENTS: msgspec.json.encode(entry)}.items():
                (begun / name).write_bytes(content)
            _rename(begun, self._folder / key)
        finally:
            shutil.rmtree(begun, ignore_errors=True)


def list_kept(folder: Path) -> list[Kept]:
    """Return the entries, longest unused first. What vanishes meanwhile is left out."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if _KEY.fullmatch(path.name):
            with suppress(OSError):
                size = sum(file.stat().st_size for file in path.iterdir())
                found.append(Kept(path.name, _read_label(path), size, path.stat().st_mtime))
    return sorted(found, key=lambda kept: (kept.used, kept.key))


def prune(folder: Path, limit_bytes: int, spared: str = "") -> list[Kept]:
    """Remove the longest unused entries until at most ``limit_bytes`` remain, and what killed builds left;
    return the removed ones. ``spared``: an entry that stays whatever its size."""
    _remove_stale(folder)
    kept = list_kept(folder)
    total = sum(one.size_bytes for one in kept)
    removed = []
    for one in kept:
        if total <= limit_bytes:
            break
        if one.key != spared:
            shutil.rmtree(folder / one.key, ignore_errors=True)
            removed.append(one)
            total -= one.size_bytes
    return removed


def _remove_stale(folder: Path) -> None:
    for path in folder.glob(f"{_BEGUN}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_S:
                shutil.rmtree(path, ignore_errors=True)


def _read_label(path: Path) -> str:
    try:
        return msgspec.json.decode((path / _CONTENTS).read_bytes(), type=Entry).label
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "damaged"


def _rename(begun: Path, target: Path) -> None:
    """An entry that another build has just kept is the same: it stays."""
    try:
        begun.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
