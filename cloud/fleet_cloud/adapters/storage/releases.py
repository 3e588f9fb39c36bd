"""The release repository as a folder on this machine."""

from dataclasses import dataclass
from pathlib import Path

from fleet_cloud.errors import Unavailable


@dataclass(frozen=True, slots=True)
class ReleaseFolder:
    """Implements `ReleaseFiles`. Which paths may be asked for is the caller's to know."""

    folder: Path

    def read(self, path: str, offset: int, length: int) -> tuple[bytes, int] | None:
        try:
            with (self.folder / path).open("rb") as file:
                total = file.seek(0, 2)
                file.seek(min(offset, total))
                return file.read(length), total
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as exc:
            raise Unavailable(
                f"the release repository {self.folder} cannot be read: {exc}",
                hint="check the disk and its permissions",
                code="storage.unreachable",
            ) from exc
