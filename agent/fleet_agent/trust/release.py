"""Release metadata and targets, through python-tuf's client. Metadata is kept under trust/."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from tuf.api.exceptions import (
    DownloadError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from fleet_agent.errors import TrustError
from fleet_agent.trust.trouble import ExpiredError, UnreachableError, map_os_error

SOCKET_TIMEOUT_S: Final = 10
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Releases:
    """The verified state of the release repository at ``now_ms``. A disk that cannot be read or
    written is a `StorageError`, never a verdict."""

    def __init__(self, trust_dir: Path, metadata_url: str, targets_url: str, now_ms: int) -> None:
        root = trust_dir / "root.json"
        self._metadata, self._targets = trust_dir / "metadata", trust_dir / "targets"
        try:
            for folder in (self._metadata, self._targets):
                folder.mkdir(parents=True, exist_ok=True)
            self._updater = Updater(
                metadata_dir=str(self._metadata),
                metadata_base_url=metadata_url,
                target_dir=str(self._targets),
                target_base_url=targets_url,
                fetcher=Urllib3Fetcher(socket_timeout=SOCKET_TIMEOUT_S, app_user_agent="fleet-agent"),
                config=UpdaterConfig(),
                bootstrap=root.read_bytes(),
            )
        except (FileNotFoundError, RepositoryError) as exc:
            raise TrustError(
                f"the release root {root} cannot be used: {exc}",
                hint="enrol this device again",
                code="trust.root",
            ) from exc
        except OSError as exc:
            raise map_os_error(exc) from exc
        # tuf judges dates by the local wall clock, which a Pi does not have.
        self._updater._trusted_set.reference_time = _EPOCH + timedelta(milliseconds=now_ms)  # noqa: SLF001

    def refresh(self) -> None:
        """Bring the metadata up to date; raise `TrustError` when it is not what it must be."""
        try:
            self._updater.refresh()
        except DownloadLengthMismatchError as exc:
            raise TrustError(f"release metadata is too long: {exc}", code="trust.metadata.length") from exc
        except DownloadError as exc:
            raise UnreachableError(f"release metadata cannot be fetched: {exc}") from exc
        except OSError as exc:
            raise map_os_error(exc) from exc
        except ExpiredMetadataError as exc:
            raise ExpiredError(
                f"release metadata is out of date: {exc}",
                hint="is this device's clock right, and does the controller renew its metadata?",
            ) from exc
        except RepositoryError as exc:
            raise TrustError(
                f"release metadata is not valid: {exc}",
                hint="somebody may be tampering with the controller or the way to it",
                code="trust.metadata.invalid",
            ) from exc

    def fetch_target(self, path: str, length_max: int) -> bytes:
        """Return the verified bytes of a released target; raise `TrustError`."""
        info = self._updater.get_targetinfo(path)
        if info is None:
            raise TrustError(f"{path} is not released", code="trust.manifest.unreleased")
        if info.length > length_max:
            raise TrustError(f"{path} is too long", code="trust.manifest.length")
        try:
            file = self._targets / _file_name(path)
            found = self._updater.find_cached_target(info, str(file))
            content = Path(found or self._updater.download_target(info, str(file))).read_bytes()
        except (RepositoryError, DownloadLengthMismatchError) as exc:
            raise TrustError(f"{path} is not what was released: {exc}", code="trust.manifest.digest") from exc
        except DownloadError as exc:
            raise UnreachableError(f"{path} cannot be fetched: {exc}") from exc
        except OSError as exc:
            raise map_os_error(exc) from exc
        info.verify_length_and_hashes(content)
        return content

    def forget_others(self, paths: Iterable[str]) -> None:
        """Remove every target but these, and what a kill left half written in the metadata."""
        wanted = {_file_name(path) for path in paths}
        others = [file for file in self._targets.iterdir() if file.name not in wanted]
        for file in (*others, *self._metadata.glob("tmp*")):
            with suppress(OSError):  # it costs room, no more
                file.unlink()


def _file_name(target: str) -> str:
    return target.replace("/", "_")
