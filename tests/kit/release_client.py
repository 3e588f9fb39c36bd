"""A TUF client of the release repository, python-tuf's own, that reads a folder and counts what it reads."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

BASE = "folder:///"


@dataclass
class FolderFetcher(FetcherInterface):
    """``folder``: as it is served. ``fetched``: the bytes of each file that was read."""

    folder: Path
    fetched: dict[str, int] = field(default_factory=dict)

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(BASE)
        file = self.folder / path
        if not file.is_file():
            raise DownloadHTTPError(f"no {path}", 404)
        raw = file.read_bytes()
        self.fetched[path] = len(raw)
        yield raw


@dataclass
class ReleaseClient:
    """A device as far as releases go: it pins the first root, and remembers what it has seen."""

    folder: Path
    state: Path
    root: bytes

    def updater(self) -> tuple[Updater, FolderFetcher]:
        metadata, targets = self.state / "metadata", self.state / "targets"
        for path in (metadata, targets):
            path.mkdir(parents=True, exist_ok=True)
        fetcher = FolderFetcher(self.folder)
        updater = Updater(
            str(metadata), f"{BASE}metadata/", str(targets), f"{BASE}targets/", fetcher, bootstrap=self.root
        )
        return updater, fetcher

    def fetch(self, path: str) -> bytes | None:
        """Refresh, and return a target, none if it is not released; raise python-tuf's errors."""
        updater, _ = self.updater()
        updater.refresh()
        found = updater.get_targetinfo(path)
        return None if found is None else Path(updater.download_target(found)).read_bytes()

    def measure(self, path: str) -> dict[str, int]:
        """Refresh and fetch a target; return the bytes of each file that came over."""
        updater, fetcher = self.updater()
        updater.refresh()
        found = updater.get_targetinfo(path)
        assert found is not None
        updater.download_target(found)
        return fetcher.fetched

    @property
    def root_version(self) -> int:
        updater, _ = self.updater()
        updater.refresh()
        return updater._trusted_set.root.version
