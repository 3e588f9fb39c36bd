"""The bytes of one file in parts over the broker, in order: a few questions outstanding, lost ones asked
again.

What is lost is asked for anew from the first byte that is missing, in whatever parts the flow says then. A
part that comes late is as good, if it is the next one; else it came for nothing, and is counted.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fleet_agent.errors import TransferError
from fleet_agent.transfer.flow import Flow
from fleet_agent.transfer.questions import SEPARATOR, Answered, Conversation, Questions, ended
from fleet_agent.transfer.response import AnswerError
from fleet_shared.limits import PART_BYTES
from fleet_shared.messages.fetch import Fetch, Part

UNASKED_MAX_BYTES: Final = 4 * PART_BYTES
"""So much more may come than twice what was asked for: a broker may deliver a message again."""

GIVEN_UP_KEPT: Final = 16
"""Questions whose answers may come late."""


@dataclass(frozen=True)
class _Asked:
    part: Part
    at_s: float


@dataclass
class PartStream:
    """``question``: what is asked, without its part. ``total``: how long the file is; none while only its
    sender knows it. ``silence_s``: how long nothing may come at all; none for as long as it takes."""

    questions: Questions
    conversation: Conversation
    question: Fetch
    aborted: threading.Event
    begin: int = 0
    total: int | None = None
    total_max: int | None = None
    silence_s: float | None = None
    flow: Flow = field(default_factory=Flow)
    _next: int = 0
    _number: int = 0
    _asked_bytes: int = 0
    _heard_s: float = 0.0
    _asked_s: float = 0.0
    _asked: dict[str, _Asked] = field(default_factory=dict)
    _given_up: dict[str, _Asked] = field(default_factory=dict)
    _ready: dict[int, bytes] = field(default_factory=dict)

    def __iter__(self) -> Iterator[bytes]:
        """Raises `AnswerError`, `NotYetError` and `TransferError`."""
        self._next, self._heard_s = self.begin, time.monotonic()
        while self.total is None or self.begin < self.total:
            self._ask()
            self._hear()
            while (content := self._ready.pop(self.begin, None)) is not None:
                self.begin += len(content)
                yield content

    def _ask(self) -> None:
        """Ask for what follows, as far as the flow allows; while nobody knows how long the file is, for its
        first part only."""
        while len(self._asked) + len(self._ready) < self.flow.window:
            left = PART_BYTES if self.total is None else self.total - self._next
            if left <= 0 or (self.total is None and self._asked):
                return
            part = Part(offset=self._next, length=min(left, self.flow.length))
            self._number += 1
            request = f"{self.conversation.name}{SEPARATOR}{self._number}"
            self._asked_s = time.monotonic()
            self._asked[request] = _Asked(part, self._asked_s)
            self._next += part.length
            self._asked_bytes += part.length
            self.questions.send(msgspec.structs.replace(self.question, request=request, part=part))

    def _hear(self) -> None:
        """Take one answer, or ask anew for what seems to be lost."""
        quiet_since_s = max(self._heard_s, self._asked_s)
        wait_s = quiet_since_s + self.flow.patience_s - time.monotonic()
        answered = self.conversation.wait(max(0.0, wait_s), self.aborted)
        if self.aborted.is_set():
            raise ended()
        if answered is not None:
            self._heard_s = time.monotonic()
            self._take(answered.check())
        elif self.conversation.is_new():
            self._begin_anew()
        else:
            self._check_silence()
            self.flow.lost()
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Give up what is outstanding, and what came beyond a gap."""
        self._given_up = dict([*self._given_up.items(), *self._asked.items()][-GIVEN_UP_KEPT:])
        self._asked.clear()
        self._ready.clear()
        self._next = self.begin

    def _take(self, answered: Answered) -> None:
        chunk, content = answered.chunk, answered.content
        if content is None:
            raise AnswerError("the controller sends no parts: is it an older one?")
        self._check_total(chunk.total_bytes)
        if self.conversation.received > 2 * self._asked_bytes + UNASKED_MAX_BYTES:
            raise _too_much("the controller sends more parts than were asked for")
        if (asked := self._asked.pop(chunk.request, None)) is None:
            self._take_late(self._given_up.pop(chunk.request, None), chunk.offset, content)
            return
        if (chunk.offset, len(content)) != (asked.part.offset, self._expected(asked.part)):
            raise AnswerError("the controller sends another part than was asked for")
        self.flow.answered(time.monotonic() - asked.at_s)
        self._ready[chunk.offset] = content

    def _take_late(self, asked: _Asked | None, offset: int, content: bytes) -> None:
        """The link is slower than was thought. If it is the next one, what is outstanding was asked for in
        its place, and is not needed any more."""
        if asked is None:
            return
        self.flow.answered(time.monotonic() - asked.at_s)
        if offset == asked.part.offset == self.begin and len(content) == self._expected(asked.part):
            self._begin_anew()
            self._ready[offset] = content
            self._next = offset + len(content)

    def _expected(self, part: Part) -> int:
        return min(part.length, (self.total or 0) - part.offset)

    def _check_total(self, total: int | None) -> None:
        if total is None:
            raise AnswerError("the controller does not say how long the file is")
        if self.total is None:
            if self.total_max is not None and total > self.total_max:
                raise _too_much(f"the file has {total} bytes, at most {self.total_max} are taken")
            self.total = total
        if total != self.total:
            raise AnswerError(f"the controller has {total} bytes, {self.total} were promised")

    def _check_silence(self) -> None:
        quiet_s = time.monotonic() - self._heard_s
        if self.silence_s is not None and quiet_s > self.silence_s:
            raise AnswerError(f"nothing came over the broker in {quiet_s:.0f} s")


def _too_much(message: str) -> TransferError:
    return TransferError(
        message, hint="the controller, its store or the broker is damaged", code="transfer.too_long"
    )
