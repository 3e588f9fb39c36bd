"""Blobs and release files over the broker, for a device that has no other way or none at the moment."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from fleet_agent.transfer.flow import Flow
from fleet_agent.transfer.questions import NotYetError, Questions
from fleet_agent.transfer.response import AnswerError, Head, Wanted
from fleet_agent.transfer.stream import PartStream
from fleet_shared.messages.fetch import Fetch
from fleet_shared.names import AssignmentId

SILENCE_S: Final = 60.0
"""Whoever asks for a file has a deadline, and does not wait longer for a sign of life."""


class BrokerAnswer:
    """Implements `Response`. The first part is asked for with the first of `parts`."""

    over_broker = True

    def __init__(
        self,
        questions: Questions,
        assignment: AssignmentId,
        wanted: Wanted,
        aborted: threading.Event,
        flow: Flow,
        lasts_s: float | None,
    ) -> None:
        self._wanted, self._lasts_s = wanted, lasts_s
        self._stack = ExitStack()
        self._conversation = self._stack.enter_context(questions.converse())
        self._stream = PartStream(
            questions,
            self._conversation,
            Fetch(request=self._conversation.name, assignment=assignment, sha256=wanted.sha256),
            aborted,
            begin=wanted.have,
            total=wanted.size_bytes,
            flow=flow,
        )

    @property
    def received(self) -> int:
        return self._conversation.received

    def head(self) -> Head:
        """The digest names the bytes: what is there of them goes on, whichever way it came."""
        return Head(206 if self._wanted.have else 200, {})

    def parts(self) -> Iterator[bytes]:
        begin_s = time.monotonic()
        for content in self._stream:
            yield content
            if self._lasts_s is not None and time.monotonic() - begin_s >= self._lasts_s:
                return

    def close(self) -> None:
        self._stack.close()


@dataclass(frozen=True)
class BrokerSource:
    """Blobs of one assignment. It waits for the controller as long as it takes, as whoever asks for a URL
    does. ``flow`` is kept from one blob to the next: it is the same link. ``lasts_s``: how long one answer
    goes on, where another way is to be tried now and then."""

    questions: Questions
    assignment: AssignmentId
    flow: Flow
    lasts_s: float | None = None

    def __call__(self, wanted: Wanted, aborted: threading.Event) -> BrokerAnswer:
        return BrokerAnswer(self.questions, self.assignment, wanted, aborted, self.flow, self.lasts_s)


@dataclass(frozen=True)
class BrokerFiles:
    """Files of the release repository. Nothing that they say is believed here: whoever asked verifies."""

    questions: Questions
    silence_s: float = SILENCE_S
    new_flow: Callable[[], Flow] = Flow

    def fetch_file(self, path: str, length_max: int, aborted: threading.Event | None = None) -> bytes:
        """Return a file such as ``metadata/timestamp.json``. Raises `TransferError`:
        ``release.unknown`` when there is none, ``transfer.too_long`` beyond ``length_max``,
        ``transfer.aborted``; `NotYetError` when nothing comes."""
        with self.questions.converse() as conversation:
            stream = PartStream(
                self.questions,
                conversation,
                Fetch(request=conversation.name, file=path),
                aborted or threading.Event(),
                total_max=length_max,
                silence_s=self.silence_s,
                flow=self.new_flow(),
            )
            try:
                return b"".join(stream)
            except AnswerError as exc:
                raise NotYetError(
                    f"{path} cannot be fetched over the broker: {exc}", hint="is the controller running?"
                ) from exc
