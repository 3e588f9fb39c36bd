"""Compiled models on disk: a bounded cache that may lose anything at any time.

An entry is two files: the library, and beside it its sha256, which is written last. An entry without
the right digest was cut off or damaged, and is made again: a damaged library must never be loaded, it
would take the worker down. What was used last goes last.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

MAKING: Final = ".making-"
ABANDONED_S: Final = 3600.0
"""So old is no library that is still being made: whoever made it was killed."""
ENTRIES_MAX: Final = 6
BYTES_MAX: Final = 256 * 1024 * 1024
_LIBRARY, _DIGEST = ".so", ".sha256"


def make_key(model: bytes, words: Iterable[str]) -> str:
    """Return the name of what ``model`` becomes under compiler, target and options."""
    digest = hashlib.sha256(hashlib.sha256(model).digest())
    for word in words:
        digest.update(b"\0" + word.encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class CompiledCache:
    folder: Path
    entries_max: int = ENTRIES_MAX
    bytes_max: int = BYTES_MAX

    def find(self, key: str) -> Path | None:
        """Return the whole library of ``key``, or none; what is damaged is removed."""
        library, digest = self._library(key), self._digest(key)
        try:
            if _hash(library) == digest.read_text():
                os.utime(library)
                return library
        except (OSError, UnicodeDecodeError):
            pass
        self._remove(key)
        return None

    def store(self, key: str, write: Callable[[Path], None]) -> Path | None:
        """Let ``write`` make the library in a temporary file, and keep it; none where the disk refuses."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            with tempfile.TemporaryDirectory(prefix=MAKING, dir=self.folder) as making:
                made = Path(making) / f"made{_LIBRARY}"
                write(made)
                sha256 = _hash(made)
                self._digest(key).unlink(missing_ok=True)
                made.replace(self._library(key))
                (Path(making) / "digest").write_text(sha256)
                (Path(making) / "digest").replace(self._digest(key))
            self._prune(key)
        except OSError as exc:
            log.warning("the compiled model is not kept: %s", exc)
            return None
        return self._library(key)

    def forget(self, key: str) -> None:
        self._remove(key)

    def _remove_abandoned(self) -> None:
        for folder in self.folder.glob(f"{MAKING}*"):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > ABANDONED_S:
                    shutil.rmtree(folder)

    def _prune(self, newest: str) -> None:
        """Remove what was used longest ago, until the bounds hold; the newest entry always stays."""
        found = [(file.stat(), file) for file in self.folder.glob(f"*{_LIBRARY}")]
        used = sorted(found, key=lambda one: one[0].st_mtime_ns, reverse=True)
        kept, size = 0, 0
        for stat, file in used:
            kept, size = kept + 1, size + stat.st_size
            if file.stem != newest and (kept > self.entries_max or size > self.bytes_max):
                self._remove(file.stem)

    def _remove(self, key: str) -> None:
        for file in (self._digest(key), self._library(key)):
            with suppress(OSError):
                file.unlink(missing_ok=True)

    def _library(self, key: str) -> Path:
        return self.folder / f"{key}{_LIBRARY}"

    def _digest(self, key: str) -> Path:
        return self.folder / f"{key}{_DIGEST}"


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1024 * 1024):
            digest.update(part)
    return digest.hexdigest()
