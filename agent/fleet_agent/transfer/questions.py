"""What this device asks the controller at the broker: a question, an answer, a deadline.

Answers may be lost with the connection, and the controller may be away: the same question is asked again,
ever more rarely, and a late answer is as good.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Final

from fleet_agent.errors import LaterError, TransferError
from fleet_shared.messages.fetch import Chunk, Fetch

ASK_AGAIN_S: Final = 5.0
ASK_AGAIN_MAX_S: Final = 40.0
LOOK_EVERY_S: Final = 0.1
"""How soon an abort is seen."""


class NotYetError(LaterError):
    """The controller cannot answer now; the same question may be answered later."""

    code = "transfer.not_yet"


@dataclass(frozen=True)
class Answered:
    """``content`` is none where the answer has none."""

    chunk: Chunk
    content: bytes | None


class Questions:
    """`ask` blocks the thread that asks; `answer` is called by the supervisor.

    ``send`` puts the question on the supervisor's queue; while the device is offline it is just
    asked again, until ``aborted``.
    """

    def __init__(self, send: Callable[[Fetch], None], *, ask_again_s: float = ASK_AGAIN_S) -> None:
        self._send, self._ask_again_s = send, ask_again_s
        self._lock = threading.Lock()
        self._waiting: dict[str, Future[Answered]] = {}

    def ask(self, question: Fetch, aborted: threading.Event, within_s: float | None = None) -> Answered:
        """Return the answer; raise `TransferError` with the controller's reason (`NotYetError` for a
        passing one, or when none came ``within_s``), or when aborted (``transfer.aborted``)."""
        future: Future[Answered] = Future()
        deadline_s = None if within_s is None else time.monotonic() + within_s
        with self._lock:
            self._waiting[question.request] = future
        try:
            return _check(self._ask(question, future, aborted, deadline_s))
        finally:
            with self._lock:
                self._waiting.pop(question.request, None)

    def answer(self, chunk: Chunk, content: bytes | None = None) -> None:
        with self._lock:
            future = self._waiting.get(chunk.request)
        if future is not None and not future.done():
            future.set_result(Answered(chunk, content))

    def _ask(
        self, question: Fetch, future: "Future[Answered]", aborted: threading.Event, deadline_s: float | None
    ) -> Answered:
        wait_s = self._ask_again_s
        while not aborted.is_set():
            left_s = wait_s if deadline_s is None else min(wait_s, deadline_s - time.monotonic())
            if left_s <= 0:
                raise NotYetError("the controller does not answer at the broker", hint="is it running?")
            self._send(question)
            if (found := _wait(future, left_s, aborted)) is not None:
                return found
            # Rarer, for the controller may be busy.
            wait_s = min(2 * wait_s, ASK_AGAIN_MAX_S)
        raise TransferError("the download was ended", code="transfer.aborted")


def _check(answered: Answered) -> Answered:
    chunk, failure = answered.chunk, answered.chunk.failure
    if failure is None and not chunk.retry:
        return answered
    raise (NotYetError if chunk.retry else TransferError)(
        failure.message if failure else "the controller cannot answer now",
        hint=failure.hint if failure else "",
        code=failure.code if failure else NotYetError.code,
    )


def _wait(future: "Future[Answered]", wait_s: float, aborted: threading.Event) -> Answered | None:
    """Return the answer, or none when it did not come in time or is not wanted any more."""
    deadline_s = time.monotonic() + wait_s
    while not aborted.is_set() and (left_s := deadline_s - time.monotonic()) > 0:
        try:
            return future.result(min(LOOK_EVERY_S, left_s))
        except FutureTimeout:
            continue
    return None
