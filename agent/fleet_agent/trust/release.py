"""Release metadata and targets, through python-tuf's client. Metadata is kept under trust/."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Final

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from fleet_agent.errors import TrustError
from fleet_agent.trust.trouble import (
    ExpiredError,
    ManifestError,
    MetadataError,
    OlderError,
    TooLongError,
    UnreachableError,
    map_os_error,
)
from fleet_shared.durable import write_durably
from fleet_shared.envelope import TIMESTAMP_ISSUED_MS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


class DurableUpdater(Updater):
    """Keeps what it verified through a power cut: what has been seen must not be rolled back by one."""

    def _persist_file(self, filename: str, data: bytes) -> None:
        write_durably(Path(filename), data)


class Told(FetcherInterface):
    """Another fetcher's files, but a timestamp that is known already."""

    def __init__(self, fetcher: FetcherInterface, timestamp: bytes) -> None:
        self._fetcher, self._timestamp = fetcher, timestamp

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        if url.endswith("/timestamp.json"):
            with super().download_file(url, max_length) as file:
                yield file
        else:
            with self._fetcher.download_file(url, max_length) as file:
                yield file

    def _fetch(self, url: str) -> Iterator[bytes]:  # noqa: ARG002 - there is one
        return iter([self._timestamp])


class Releases:
    """The verified state of the release repository at ``now_ms``. A disk that cannot be read or
    written is a `StorageError`, never a verdict; neither is a repository that is not what it must be:
    nothing was judged by it, and the next one may be whole.

    ``root``: what everything is believed by, of enrolment. ``metadata``, ``targets``: folders.
    """

    def __init__(
        self, root: bytes, metadata: Path, targets: Path, fetcher: FetcherInterface, urls: tuple[str, str],
        now_ms: int,
    ) -> None:  # fmt: skip
        self._root, self._metadata, self._targets = root, metadata, targets
        self._fetcher, self._urls = fetcher, urls
        self._now = _EPOCH + timedelta(milliseconds=now_ms)
        self._updater = self._open(fetcher)

    def refresh(self, news: bytes = b"") -> None:
        """Bring the metadata up to date; raise `TrustError` when it is not what it must be.

        ``news``: a timestamp that came on another way. One that is signed as it must be is the least that
        the repository must have: a mirror that stays behind is found out.
        """
        if news and not self._knows(news):
            with suppress(TrustError):  # forged, or of a key that is believed no more, or ahead of its mirror
                self._carry_out(self._open(Told(self._fetcher, news)))
            self._updater = self._open(self._fetcher)
        self._carry_out(self._updater)

    @property
    def root_version(self) -> int:
        return self._updater._trusted_set.root.version  # noqa: SLF001 - no public accessor

    @property
    def ends_ms(self) -> int:
        """When the first of the metadata ends. Whoever has the keys that the controller signs with by itself
        dates those documents as they like, but neither the root nor the targets."""
        believed = self._updater._trusted_set  # noqa: SLF001
        ends = [believed[role].expires for role in (Root.type, Timestamp.type, Snapshot.type, Targets.type)]
        return _milliseconds(min(ends))

    @property
    def issued_ms(self) -> int:
        """When the newest timestamp was signed; 0 where it does not say so, or says what cannot be."""
        issued = self._updater._trusted_set.timestamp.unrecognized_fields.get(TIMESTAMP_ISSUED_MS)  # noqa: SLF001
        return issued if isinstance(issued, int) and 0 <= issued <= self.ends_ms else 0

    def fetch_target(self, path: str, length_max: int) -> bytes:
        """Return the verified bytes of a released target; raise `TrustError`."""
        content = self.find_target(path, length_max)
        if content is None:
            raise TrustError(f"{path} is not released", code="trust.manifest.unreleased")
        return content

    def find_target(self, path: str, length_max: int) -> bytes | None:
        """As `fetch_target`; none for what is not released."""
        info = self._find_info(path)
        if info is None:
            return None
        if info.length > length_max:
            raise TrustError(f"{path} is too long", code="trust.manifest.length")
        try:
            file = self._targets / _file_name(path)
            found = self._updater.find_cached_target(info, str(file))
            content = Path(found or self._updater.download_target(info, str(file))).read_bytes()
            info.verify_length_and_hashes(content)
        except (RepositoryError, DownloadLengthMismatchError) as exc:
            raise ManifestError(f"{path} is not what was released: {exc}") from exc
        except DownloadError as exc:
            raise UnreachableError(f"{path} cannot be fetched: {exc}") from exc
        except OSError as exc:
            raise map_os_error(exc) from exc
        return content

    def _find_info(self, path: str) -> TargetFile | None:
        """Return what the lists say of a target; they are fetched and judged as they are come upon."""
        with _judged():
            info: TargetFile | None = self._updater.get_targetinfo(path)
        return info

    def forget_others(self, paths: Iterable[str]) -> None:
        """Remove every target but these, and what a kill left half written in the metadata."""
        wanted = {_file_name(path) for path in paths}
        others = [file for file in self._targets.iterdir() if file.name not in wanted]
        for file in (*others, *self._metadata.rglob("tmp*"), *self._metadata.rglob(".*.tmp")):
            with suppress(OSError):  # it costs room, no more
                file.unlink()

    def _open(self, fetcher: FetcherInterface) -> Updater:
        try:
            for folder in (self._metadata, self._targets):
                folder.mkdir(parents=True, exist_ok=True)
            updater = DurableUpdater(
                metadata_dir=str(self._metadata),
                metadata_base_url=self._urls[0],
                target_dir=str(self._targets),
                target_base_url=self._urls[1],
                fetcher=fetcher,
                config=UpdaterConfig(),
                bootstrap=self._root,
            )
        except RepositoryError as exc:
            raise TrustError(
                f"the release root cannot be used: {exc}", hint="enrol this device again", code="trust.root"
            ) from exc
        except OSError as exc:
            raise map_os_error(exc) from exc
        # tuf judges dates by the local wall clock, which a Pi does not have.
        updater._trusted_set.reference_time = self._now  # noqa: SLF001
        return updater

    def _knows(self, news: bytes) -> bool:
        try:
            return (self._metadata / "timestamp.json").read_bytes() == news
        except OSError:
            return False

    def _carry_out(self, updater: Updater) -> None:
        with _judged():
            updater.refresh()


@contextmanager
def _judged() -> Iterator[None]:
    """Map what python-tuf says of metadata."""
    try:
        yield
    except DownloadLengthMismatchError as exc:
        raise TooLongError(f"release metadata is too long: {exc}") from exc
    except DownloadError as exc:
        raise UnreachableError(f"release metadata cannot be fetched: {_reason(exc)}") from exc
    except OSError as exc:
        raise map_os_error(exc) from exc
    except ExpiredMetadataError as exc:
        raise ExpiredError(
            f"release metadata is out of date: {exc}",
            hint="is this device's clock right, and does the controller renew its metadata?",
        ) from exc
    except BadVersionNumberError as exc:
        raise OlderError(
            f"release metadata is older than what this device has seen: {exc}",
            hint="a mirror that lags behind, or somebody who withholds what is new; it is tried again",
        ) from exc
    except RepositoryError as exc:
        raise MetadataError(
            f"release metadata is not valid: {exc}",
            hint="somebody may be tampering with the controller or the way to it",
        ) from exc


def _milliseconds(when: datetime) -> int:
    return int((when - _EPOCH) / timedelta(milliseconds=1))


def _reason(exc: DownloadError) -> str:
    return f"{exc}: {exc.__cause__}" if exc.__cause__ is not None else str(exc)


def _file_name(target: str) -> str:
    return target.replace("/", "_")
