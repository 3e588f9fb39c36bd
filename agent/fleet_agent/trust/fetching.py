"""How the trust child gets files of the release repository: over HTTP(S), and where that is out of reach
through the supervisor, which asks at the broker.

Nothing that comes is believed here: whoever verifies it knows how long it may be. So the server may be
anybody's: an authority that this device missed, or dates that it cannot judge, must not keep it from the
metadata by which it learns of both. Redirects are not followed.
"""

import logging
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Final

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from fleet_agent.tls import stranger_context
from fleet_agent.trust.protocol import Repository

log = logging.getLogger(__name__)

SOCKET_TIMEOUT_S: Final = 10.0
HTTP_WITHIN_S: Final = 90.0
"""One file, name and connection and all, however slowly each byte of it comes."""
PACE_S: Final = 30.0
PACE_BYTES_MIN: Final = 3000
"""A connection that gives less in `PACE_S` is given up: a slow link is well above."""
READ_BYTES: Final = 64 * 1024
SERVER_ERRORS: Final = 500

Ask = Callable[[str, int], bytes]
"""Asks the supervisor for a path of the repository, of at most so many bytes; raises `Asked`."""


class Asked(Exception):
    """The supervisor has no such file (then ``retry`` is false), or no way to it."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class OutOfReach(Exception):
    """HTTP gives no answer, or no good one."""


class ReleaseFetcher(FetcherInterface):
    """python-tuf's port to the network. Once HTTP was out of reach it is not tried again: the child lives for
    one request."""

    def __init__(self, repository: Repository, ask: Ask | None = None) -> None:
        self._roots = {
            "metadata": repository.metadata_url.rstrip("/") + "/",
            "targets": repository.targets_url.rstrip("/") + "/",
        }
        self._http, self._ask = repository.http, ask
        self._length_max = 0

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        self._length_max = max_length
        with super().download_file(url, max_length) as file:
            yield file

    def _fetch(self, url: str) -> Iterator[bytes]:
        """Yields one byte more than allowed of what is too long."""
        if self._http:
            try:
                return iter([_within(HTTP_WITHIN_S, lambda: fetch_http(url, self._length_max + 1))])
            except OutOfReach as exc:
                if self._ask is None:
                    raise DownloadError(str(exc)) from exc
                self._http = False
                log.info("release files are asked for at the broker: %s", exc)
        if self._ask is None:
            raise DownloadError("there is no way to the release repository")
        try:
            return iter([self._ask(self._path_of(url), self._length_max)])
        except Asked as exc:
            if exc.retry:
                raise DownloadError(str(exc)) from exc
            raise DownloadHTTPError(str(exc), 404) from exc

    def _path_of(self, url: str) -> str:
        for folder, root in self._roots.items():
            if url.startswith(root):
                return f"{folder}/{url.removeprefix(root)}"
        raise DownloadError(f"{url} is not of the release repository")


def fetch_http(url: str, length: int) -> bytes:
    """Return at most ``length`` bytes. Raises `DownloadHTTPError` where the server says no, `OutOfReach`."""
    timeout_s = SOCKET_TIMEOUT_S
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
            with (
                urllib3.PoolManager(ssl_context=stranger_context(), cert_reqs="CERT_NONE") as pool,
                pool.request(
                    "GET", url, preload_content=False, retries=False, timeout=timeout_s, redirect=False,
                    headers={"User-Agent": "fleet-agent"},
                ) as response,
            ):  # fmt: skip
                _check_status(response.status)
                return _read(response, length)
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
        raise OutOfReach(f"{url}: {exc}") from exc


def _check_status(status: int) -> None:
    if status >= SERVER_ERRORS:
        raise OutOfReach(f"the server answers {status}")
    if status != 200:
        raise DownloadHTTPError(f"the server answers {status}", status)


def _read(response: urllib3.BaseHTTPResponse, length: int) -> bytes:
    content, begin_s, count = bytearray(), time.monotonic(), 0
    while len(content) < length and (part := response.read1(min(READ_BYTES, length - len(content)))):
        content += part
        count += len(part)
        if (now_s := time.monotonic()) - begin_s >= PACE_S:
            if count < PACE_BYTES_MIN:
                raise OutOfReach(f"only {count} bytes in {now_s - begin_s:.0f} s")
            begin_s, count = now_s, 0
    return bytes(content)


def _within(seconds: float, work: Callable[[], bytes]) -> bytes:
    """Return what ``work`` does in a thread of its own; one that drips is left to end with this process."""
    done: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put(work())
        except Exception as exc:  # noqa: BLE001 - it is raised where the thread is waited for
            done.put(exc)

    threading.Thread(target=run, name="wire", daemon=True).start()
    try:
        result = done.get(timeout=seconds)
    except queue.Empty:
        raise OutOfReach(f"no whole answer within {seconds:g} s") from None
    if isinstance(result, Exception):
        raise result
    return result
