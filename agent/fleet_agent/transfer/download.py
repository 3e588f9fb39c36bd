"""One blob over HTTP(S): resumed where it stood, never longer than promised, digest verified.

urllib3 is imported with the first download: an idle agent does not carry it.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet_agent.errors import TransferError
from fleet_agent.link.backoff import Backoff
from fleet_agent.transfer.policy import Step, decide_step, parse_retry_after_s
from fleet_shared.names import Digest

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 30.0
PART_BYTES: Final = 64 * 1024
RETRIES_MAX: Final = 8


@dataclass
class Counted:
    """Bytes of one download: ``fetched`` now, ``resumed`` were there from before."""

    fetched: int = 0
    resumed: int = 0


@dataclass
class Downloader:
    """``url_of`` asks for a URL of a blob (it may block); ``progress`` is told each part's bytes.
    ``aborted`` ends a download between two parts."""

    folder: Path
    url_of: Callable[[Digest], str]
    progress: Callable[[int], None]
    aborted: threading.Event
    backoff: Backoff

    def fetch(self, sha256: Digest, size_bytes: int) -> tuple[Path, Counted]:
        """Return the file with this digest; raise `TransferError` (``transfer.*``)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        whole, part = self.folder / sha256, self.folder / f"{sha256}.part"
        counted = Counted()
        if not whole.exists():
            counted.resumed = part.stat().st_size if part.exists() else 0
            self.progress(counted.resumed)
            self._fetch_part(sha256, part, size_bytes, counted)
            self._check(sha256, part, size_bytes)
            part.replace(whole)
        else:
            counted.resumed = whole.stat().st_size
            self.progress(counted.resumed)
        return whole, counted

    def _fetch_part(self, sha256: Digest, part: Path, size_bytes: int, counted: Counted) -> None:
        url, fresh_urls, restarts, retries = self.url_of(sha256), 0, 0, 0
        while not part.exists() or part.stat().st_size < size_bytes:
            step, wait_s = self._try(url, sha256, part, size_bytes, counted)
            if step is Step.FRESH_URL and fresh_urls == 0:
                url, fresh_urls = self.url_of(sha256), 1
            elif step is Step.RESTART and restarts == 0:
                part.unlink(missing_ok=True)
                restarts = 1
            elif step is Step.RETRY and retries < RETRIES_MAX:
                retries += 1
                self._wait(self.backoff.next_delay_s() if wait_s is None else wait_s)
                url = self.url_of(sha256)
            elif step is not Step.APPEND:
                raise _final(step, sha256)

    def _try(
        self, url: str, sha256: Digest, part: Path, size_bytes: int, counted: Counted
    ) -> tuple[Step, float | None]:
        """Ask once and append what comes; return what to do next and how long the server asks to
        wait."""
        import urllib3

        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-", "If-Range": f'"{sha256}"'} if have else {}
        try:
            response = urllib3.request(
                "GET",
                url,
                headers=headers,
                preload_content=False,
                retries=False,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
            )
            with response:
                step = decide_step(response.status)
                if step is Step.APPEND or (step is Step.RESTART and response.status == 200):
                    self._append(response, part, size_bytes, counted, restart=response.status == 200)
                    return Step.APPEND, None
                if step is Step.FAIL:
                    raise _refused(response.status, sha256)
                return step, parse_retry_after_s(response.headers.get("Retry-After"))
        except urllib3.exceptions.HTTPError:
            return Step.RETRY, None

    def _append(
        self, response: "BaseHTTPResponse", part: Path, size_bytes: int, counted: Counted, *, restart: bool
    ) -> None:
        with part.open("wb" if restart else "ab") as file:
            size = file.tell()
            while content := response.read1(PART_BYTES, decode_content=False):
                if self.aborted.is_set():
                    raise TransferError("the download was ended", code="transfer.aborted")
                size += len(content)
                if size > size_bytes:
                    part.unlink(missing_ok=True)
                    raise TransferError(
                        f"the server sends more than the {size_bytes} bytes that were promised",
                        hint="the blob store or a proxy is damaged",
                        code="transfer.too_long",
                    )
                file.write(content)
                counted.fetched += len(content)
                self.progress(len(content))

    def _wait(self, delay_s: float) -> None:
        if self.aborted.wait(delay_s):
            raise TransferError("the download was ended", code="transfer.aborted")

    def _check(self, sha256: Digest, part: Path, size_bytes: int) -> None:
        digest = hashlib.sha256()
        with part.open("rb") as file:
            while content := file.read(PART_BYTES):
                digest.update(content)
        if digest.hexdigest() != sha256 or part.stat().st_size != size_bytes:
            part.unlink()
            raise TransferError(
                f"blob {sha256[:12]} arrived with other bytes than were released",
                hint="the blob store or the way from it is damaged; the running model was not touched",
                code="transfer.digest",
            )


def _refused(status: int, sha256: Digest) -> TransferError:
    codes = {404: "transfer.not_found", 410: "transfer.gone"}
    return TransferError(
        f"the server answers {status} for blob {sha256[:12]}",
        hint="is the blob still in the store? push the version again",
        code=codes.get(status, "transfer.refused"),
    )


def _final(step: Step, sha256: Digest) -> TransferError:
    if step is Step.RETRY:
        return TransferError(
            f"blob {sha256[:12]} could not be fetched in {RETRIES_MAX} retries",
            hint="is the controller or the blob store reachable from the device?",
            code="transfer.retries",
        )
    return TransferError(
        f"the server keeps refusing blob {sha256[:12]}",
        hint="the address lives for some minutes only; is the clock of the server right?",
        code="transfer.refused",
    )
