"""Ask the controller, at the broker, for the URL of a blob: a question, an answer, a deadline."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final
from urllib.parse import urljoin
from uuid import uuid4

from fleet_agent.errors import TransferError
from fleet_shared.messages.fetch import Chunk, Fetch
from fleet_shared.names import AssignmentId, Digest

ASK_AGAIN_S: Final = 5.0
ASK_AGAIN_MAX_S: Final = 40.0
LOOK_EVERY_S: Final = 0.1
"""How soon an abort is seen."""


class NotYetError(TransferError):
    """The controller cannot give a URL now; the same question may be answered later."""

    code = "transfer.not_yet"


class BlobUrls:
    """`ask` blocks the transfer's thread; `answer` is called by the supervisor.

    ``send`` puts the question on the supervisor's queue; while the device is offline it is just
    asked again, until ``aborted``.
    """

    def __init__(
        self, base_url: str, send: Callable[[Fetch], None], *, ask_again_s: float = ASK_AGAIN_S
    ) -> None:
        self._base_url, self._send, self._ask_again_s = base_url, send, ask_again_s
        self._lock = threading.Lock()
        self._waiting: dict[str, Future[Chunk]] = {}

    def ask(self, assignment: AssignmentId, sha256: Digest, *, aborted: threading.Event) -> str:
        """Return a URL; raise `TransferError` with the controller's reason (`NotYetError` for a passing
        one), or when aborted."""
        question = Fetch(request=uuid4().hex, assignment=assignment, sha256=sha256)
        future: Future[Chunk] = Future()
        wait_s = self._ask_again_s
        with self._lock:
            self._waiting[question.request] = future
        try:
            while not aborted.is_set():
                self._send(question)
                chunk = _wait(future, wait_s, aborted)
                if chunk is not None:
                    return self._read(chunk)
                if not aborted.is_set():
                    # The same question: a late answer is as good. Rarer, for the controller may be busy.
                    wait_s = min(2 * wait_s, ASK_AGAIN_MAX_S)
        finally:
            with self._lock:
                self._waiting.pop(question.request, None)
        raise TransferError("the download was ended", code="transfer.aborted")

    def answer(self, chunk: Chunk) -> None:
        with self._lock:
            future = self._waiting.get(chunk.request)
        if future is not None and not future.done():
            future.set_result(chunk)

    def _read(self, chunk: Chunk) -> str:
        if chunk.url is not None:
            return urljoin(self._base_url + "/", chunk.url)
        failure = chunk.failure
        raise (NotYetError if chunk.retry else TransferError)(
            failure.message if failure else "the controller gave no URL",
            hint=failure.hint if failure else "",
            code=failure.code if failure else "transfer.refused",
        )


def _wait(future: "Future[Chunk]", wait_s: float, aborted: threading.Event) -> Chunk | None:
    """Return the answer, or none when it did not come in time or is not wanted any more."""
    deadline_s = time.monotonic() + wait_s
    while not aborted.is_set() and (left_s := deadline_s - time.monotonic()) > 0:
        try:
            return future.result(min(LOOK_EVERY_S, left_s))
        except FutureTimeout:
            continue
    return None
