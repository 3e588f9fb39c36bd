"""What this device asks the controller at the broker: a question, an answer, a deadline.

Answers may be lost with the connection, and the controller may be away: the same question is asked again,
ever more rarely, and at once when the connection is a new one. A late answer is as good.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from fleet_agent.errors import LaterError, TransferError
from fleet_shared.messages.fetch import Chunk, Fetch

ASK_AGAIN_S: Final = 5.0
ASK_AGAIN_MAX_S: Final = 40.0
LOOK_EVERY_S: Final = 0.1
"""How soon an abort is seen."""
ANSWERS_WAITING_MAX: Final = 16
"""Of one conversation; what does not fit is dropped, and asked for again."""
SEPARATOR: Final = ":"
"""Between the name of a conversation and the number of its question."""


class NotYetError(LaterError):
    """The controller cannot answer now; the same question may be answered later."""

    code = "transfer.not_yet"


@dataclass(frozen=True)
class Answered:
    """``content`` is none where the answer has none."""

    chunk: Chunk
    content: bytes | None

    def check(self) -> "Answered":
        """Raise `TransferError` with the controller's reason, `NotYetError` for a passing one."""
        failure = self.chunk.failure
        if failure is None and not self.chunk.retry:
            return self
        raise (NotYetError if self.chunk.retry else TransferError)(
            failure.message if failure else "the controller cannot answer now",
            hint=failure.hint if failure else "",
            code=failure.code if failure else NotYetError.code,
        )


class Questions:
    """`ask` blocks the thread that asks; `answer` and `connected` are called by the supervisor.

    ``send`` puts a question on the supervisor's queue; while the device is offline it is just asked again,
    until ``aborted``.
    """

    def __init__(self, send: Callable[[Fetch], None], *, ask_again_s: float = ASK_AGAIN_S) -> None:
        self.send, self.ask_again_s = send, ask_again_s
        self.connections = 0
        self._lock = threading.Lock()
        self._open: dict[str, Conversation] = {}

    def ask(self, question: Fetch, aborted: threading.Event, within_s: float | None = None) -> Answered:
        """Return the answer; raise `TransferError` with the controller's reason (`NotYetError` for a
        passing one, or when none came ``within_s``), or when aborted (``transfer.aborted``)."""
        deadline_s = None if within_s is None else time.monotonic() + within_s
        wait_s = self.ask_again_s
        with self.converse(question.request) as conversation:
            while not aborted.is_set():
                left_s = wait_s if deadline_s is None else min(wait_s, deadline_s - time.monotonic())
                if left_s <= 0:
                    raise not_answered()
                self.send(question)
                if (found := conversation.wait(left_s, aborted)) is not None:
                    return found.check()
                # Rarer, for the controller may be busy; but a new connection had no part in that.
                wait_s = wait_s if conversation.is_new() else min(2 * wait_s, ASK_AGAIN_MAX_S)
        raise ended()

    @contextmanager
    def converse(self, name: str | None = None) -> "Iterator[Conversation]":
        """Hear the answers to the questions of one thread for as long as the block lasts."""
        conversation = Conversation(name or uuid4().hex, lambda: self.connections)
        with self._lock:
            self._open[conversation.name] = conversation
        try:
            yield conversation
        finally:
            with self._lock:
                self._open.pop(conversation.name, None)

    def answer(self, chunk: Chunk, content: bytes | None = None) -> None:
        with self._lock:
            found = self._open.get(chunk.request.partition(SEPARATOR)[0])
        if found is not None:
            found.put(Answered(chunk, content))

    def connected(self) -> None:
        """The connection is a new one: what was asked before may have been lost, and is asked again."""
        self.connections += 1


class Conversation:
    """Questions whose answers one thread waits for: their ``request`` is ``name``, or ``name:NUMBER``.
    ``received``: bytes of content that came, wanted or not."""

    def __init__(self, name: str, connections: Callable[[], int]) -> None:
        self.name = name
        self.received = 0
        self._connections, self._connection = connections, connections()
        self._answers: queue.Queue[Answered] = queue.Queue(ANSWERS_WAITING_MAX)

    def put(self, answered: Answered) -> None:
        self.received += len(answered.content or b"")
        try:
            self._answers.put_nowait(answered)
        except queue.Full:
            return

    def is_new(self) -> bool:
        """Tell, once for each, whether the connection is another than before."""
        before, self._connection = self._connection, self._connections()
        return self._connection != before

    def wait(self, wait_s: float, aborted: threading.Event) -> Answered | None:
        """Return the next answer; none when none came in time, or when it is not wanted any more, or may
        have been lost with the connection."""
        deadline_s = time.monotonic() + wait_s
        while not aborted.is_set() and self._connection == self._connections():
            if (left_s := deadline_s - time.monotonic()) <= 0:
                return None
            try:
                return self._answers.get(timeout=min(LOOK_EVERY_S, left_s))
            except queue.Empty:
                continue
        return None


def not_answered() -> NotYetError:
    return NotYetError("the controller does not answer at the broker", hint="is it running?")


def ended() -> TransferError:
    return TransferError("the download was ended", code="transfer.aborted")
