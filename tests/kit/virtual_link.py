"""A link of a given rate and delay between a device and a controller that gives out one file in parts, in
virtual time: what takes hours on a slow link is known at once."""

import heapq
import threading
from dataclasses import dataclass, field

from fleet_agent.transfer.questions import Answered
from fleet_shared.messages.fetch import Chunk, Fetch

HEAD_BYTES = 250
"""Of each answer, beside its content: the document, MQTT and TCP."""


@dataclass
class VirtualLink:
    """Stands in for `Questions` (which sends), `Conversation` (which waits) and the clock."""

    content: bytes
    bytes_per_s: float
    delay_s: float
    name: str = "link"
    now_s: float = 0.0
    received: int = 0
    sent_bytes: int = 0
    questions: int = 0
    _busy_until_s: float = 0.0
    _coming: list[tuple[float, int, Chunk, bytes]] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now_s

    def send(self, fetch: Fetch) -> None:
        """The answer goes onto the link behind all that is on its way already."""
        assert fetch.part is not None
        self.questions += 1
        content = self.content[fetch.part.offset : fetch.part.offset + fetch.part.length]
        begin_s = max(self.now_s + self.delay_s, self._busy_until_s)
        self._busy_until_s = begin_s + (len(content) + HEAD_BYTES) / self.bytes_per_s
        self.sent_bytes += len(content)
        chunk = Chunk(request=fetch.request, offset=fetch.part.offset, total_bytes=len(self.content))
        heapq.heappush(self._coming, (self._busy_until_s, self.questions, chunk, content))

    def wait(self, wait_s: float, _aborted: threading.Event) -> Answered | None:
        if not self._coming or self._coming[0][0] > self.now_s + wait_s:
            self.now_s += wait_s
            return None
        self.now_s, _, chunk, content = heapq.heappop(self._coming)
        self.received += len(content)
        return Answered(chunk, content)

    def is_new(self) -> bool:
        return False
