"""A blob on its way, on disk: what is there of it, and of which answer it is a part.

``DIGEST.part`` grows; ``DIGEST.etag`` beside it names the answer that began it. A power cut may
leave either of them, or the whole file, with other bytes than were written: only the digest counts.
"""

import hashlib
import re
from pathlib import Path
from typing import Final

from fleet_shared.durable import create, remove, rename, sync_file, sync_folder
from fleet_shared.names import Digest

READ_BYTES: Final = 64 * 1024
_STRONG_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]{1,200}"')


class Part:
    """``size_bytes`` is what was promised."""

    def __init__(self, folder: Path, sha256: Digest, size_bytes: int) -> None:
        self.sha256, self.size_bytes = sha256, size_bytes
        self.whole = folder / sha256
        self.file = folder / f"{sha256}.part"
        self._etag = folder / f"{sha256}.etag"

    @property
    def size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def has_whole(self) -> bool:
        """Tell whether the blob is there; a damaged one is removed."""
        if not self.whole.exists():
            return False
        right = self._is_right(self.whole)
        if not right:
            remove(self.whole)
        return right

    def is_right(self) -> bool:
        return self._is_right(self.file)

    def begin(self, etag: str | None) -> None:
        """Start the file anew. The ETag comes second: a crash between leaves nothing to resume."""
        create(self.file)
        if etag is not None and _STRONG_ETAG.fullmatch(etag):
            create(self._etag, etag.encode())
        else:
            remove(self._etag)

    def load_etag(self) -> str | None:
        """Return the strong ETag of the answer that began the file, if it had one."""
        try:
            etag = self._etag.read_bytes().decode("ascii", "replace")
        except FileNotFoundError:
            return None
        return etag if _STRONG_ETAG.fullmatch(etag) else None

    def discard(self) -> None:
        remove(self.file)
        remove(self._etag)

    def forget(self) -> None:
        """Remove the whole blob, and what a power cut brought back of its way here."""
        remove(self.whole)
        self.discard()

    def finish(self) -> Path:
        """Make the file the whole blob, durably."""
        sync_file(self.file)
        rename(self.file, self.whole)
        remove(self._etag)
        sync_folder(self.whole.parent)
        return self.whole

    def _is_right(self, path: Path) -> bool:
        if path.stat().st_size != self.size_bytes:
            return False
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while content := file.read(READ_BYTES):
                digest.update(content)
        return digest.hexdigest() == self.sha256
