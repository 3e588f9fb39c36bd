"""A controller at a broker that gives out one file in parts, as honestly as a test tells it to."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet_agent.transfer.questions import Questions
from fleet_shared.messages.fetch import Chunk, Fetch

Reply = tuple[Chunk, bytes | None]
Way = Callable[["PartController", Fetch], list[Reply]]
"""What is delivered when a question comes: none, one, several answers."""


def honest(controller: "PartController", fetch: Fetch) -> list[Reply]:
    return [controller.reply(fetch)]


@dataclass
class PartController:
    """Answers each question at once, by the first of ``script``, then by ``always``."""

    content: bytes
    script: list[Way] = field(default_factory=list)
    always: Way = honest
    asked: list[Fetch] = field(default_factory=list)
    some: threading.Event = field(default_factory=threading.Event)
    total: int | None = None
    sent_bytes: int = 0

    def __post_init__(self) -> None:
        self.questions = Questions(self.take, ask_again_s=0.05)

    def take(self, fetch: Fetch) -> None:
        self.asked.append(fetch)
        self.some.set()
        for chunk, content in (self.script.pop(0) if self.script else self.always)(self, fetch):
            self.deliver(chunk, content)

    def deliver(self, chunk: Chunk, content: bytes | None) -> None:
        self.sent_bytes += len(content or b"")
        self.questions.answer(chunk, content)

    def reply(self, fetch: Fetch, *, shift: int = 0, cut: int = 0) -> Reply:
        """Return the part that was asked for; one that begins ``shift`` bytes beside it, or is shorter."""
        assert fetch.part is not None
        begin = fetch.part.offset + shift
        content = self.content[begin : begin + fetch.part.length - cut]
        total = len(self.content) if self.total is None else self.total
        return Chunk(request=fetch.request, offset=begin, total_bytes=total), content

    @property
    def offsets(self) -> list[int]:
        return [fetch.part.offset for fetch in self.asked if fetch.part is not None]
