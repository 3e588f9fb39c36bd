"""Which messages are waited for, worked on, answered and acknowledged. Pure: no broker, no worker.

A message is acknowledged to the broker once its answer is confirmed, or once it is dropped, and in
the order of arrival (MQTT 5, section 4.6): so a bridge that is killed finds again what it had not
answered. When more wait than fit, the oldest is dropped: what a device infers is about now.

    waiting → working → answered → finished → acknowledged
       ↑_________|  (the worker was away)
    waiting → finished  (dropped)
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Stage(str, Enum):
    WAITING = "waiting"
    WORKING = "working"
    ANSWERED = "answered"
    FINISHED = "finished"


@dataclass(frozen=True)
class Message:
    """As it arrived. ``at_s`` is on the monotonic clock."""

    topic: str
    payload: bytes
    route: int
    at_s: float
    correlation: bytes | None = None


@dataclass(frozen=True)
class Publication:
    topic: str
    payload: bytes
    correlation: bytes | None = None


@dataclass(eq=False)
class Entry:
    """``number``: the broker's for this message; none once its session is gone, and at QoS 0."""

    message: Message
    number: int | None
    stage: Stage = Stage.WAITING
    tries: int = 0
    publication: Publication | None = None


@dataclass
class Counts:
    """Since the bridge started. ``received`` = answered + failed + dropped + what is held. ``refused``
    answers were not wanted by the broker."""

    received: int = 0
    answered: int = 0
    failed: int = 0
    dropped: int = 0
    refused: int = 0


RECENT_MAX: Final = 256


@dataclass
class Desk:
    """``waiting_max``: beyond it the oldest waiting message is dropped. As many answers may be
    unconfirmed before no further message is taken up."""

    waiting_max: int
    counts: Counts = field(default_factory=Counts)
    _entries: deque[Entry] = field(default_factory=deque)
    _recent: dict[int, tuple[str, int]] = field(default_factory=dict)
    """What was acknowledged last: the connection may break before the broker hears of it."""

    def arrive(self, message: Message, number: int | None, *, again: bool) -> bool:
        """Take a message in. ``again``: the broker says that it may have sent it before. Tell whether it
        is done with already, and only to be acknowledged once more."""
        if again and number is not None and self._recent.get(number) == _describe(message):
            return True
        self._take_in(message, number, again=again)
        return False

    def _take_in(self, message: Message, number: int | None, *, again: bool) -> None:
        if again and any(entry.number == number and entry.message.topic == message.topic
                         for entry in self._entries):  # fmt: skip
            return
        self.counts.received += 1
        self._entries.append(Entry(message, number))
        waiting = [entry for entry in self._entries if entry.stage is Stage.WAITING]
        for entry in waiting[: max(0, len(waiting) - self.waiting_max)]:
            self._drop(entry)

    def _drop(self, entry: Entry) -> None:
        """It goes at once unless it is to be acknowledged in its turn: of those that are not there may
        come any number while one is worked on."""
        entry.stage = Stage.FINISHED
        self.counts.dropped += 1
        if entry.number is None:
            self._entries.remove(entry)

    def take_job(self) -> Entry | None:
        """Return the next message to work on; none while one is worked on, or answers pile up."""
        stages = [entry.stage for entry in self._entries]
        if Stage.WORKING in stages or stages.count(Stage.ANSWERED) >= self.waiting_max:
            return None
        entry = next((entry for entry in self._entries if entry.stage is Stage.WAITING), None)
        if entry is not None:
            entry.stage = Stage.WORKING
        return entry

    def put_back(self, entry: Entry) -> None:
        """The worker was away: this message is the next one again, unless it is dropped."""
        entry.stage = Stage.WAITING
        waiting = [found for found in self._entries if found.stage is Stage.WAITING]
        if len(waiting) > self.waiting_max:
            self._drop(waiting[0])

    def answer(self, entry: Entry, publication: Publication, *, failed: bool) -> None:
        entry.stage, entry.publication = Stage.ANSWERED, publication
        if failed:
            self.counts.failed += 1
        else:
            self.counts.answered += 1

    def confirm(self, entry: Entry, *, refused: bool = False) -> None:
        """The broker has the answer, or will not take it: publishing it again would change nothing."""
        if entry.stage is Stage.ANSWERED:
            entry.stage = Stage.FINISHED
            self.counts.refused += refused

    def take_acknowledged(self) -> Iterator[int]:
        """Remove what is finished, oldest first, and yield the numbers to acknowledge."""
        while self._entries and self._entries[0].stage is Stage.FINISHED:
            entry = self._entries.popleft()
            if entry.number is not None:
                self._recent.pop(entry.number, None)
                self._recent[entry.number] = _describe(entry.message)
                if len(self._recent) > RECENT_MAX:
                    del self._recent[next(iter(self._recent))]
                yield entry.number

    def reconnect(self, *, session_kept: bool) -> list[Entry]:
        """Return the entries whose answers must be published again. A broker that kept the session
        sends again what was not acknowledged; another has forgotten its numbers."""
        if not session_kept:
            self._recent.clear()
            for entry in self._entries:
                entry.number = None
        return [entry for entry in self._entries if entry.stage is Stage.ANSWERED]

    @property
    def held(self) -> int:
        """How many have no answer yet."""
        return sum(entry.stage in {Stage.WAITING, Stage.WORKING} for entry in self._entries)


def _describe(message: Message) -> tuple[str, int]:
    return message.topic, hash(message.payload)
