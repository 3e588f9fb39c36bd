"""What devices said and nobody has read yet, in bounded memory and without losing what is said once.

Presence and reports are pictures: a newer one replaces an older one of the same topic, so that they need
at most one place for each topic, and none is dropped. Everything else waits in a bounded line; what does
not fit is dropped, and comes again by itself: telemetry until it is acknowledged, questions until they are
answered.
"""

import queue
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from fleet_shared.topics import Channel

PICTURES: Final = (f"/{Channel.PRESENCE.value}", f"/{Channel.REPORTED.value}")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from a device (``retained``: the broker had kept it), or with no topic: the
    subscriptions are new."""

    topic: str | None
    payload: bytes
    retained: bool = False


class Inbox:
    """Written by the MQTT client's thread, read by the ingest worker."""

    def __init__(self, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._pictures: dict[str | None, Incoming] = {}
        self._line: deque[Incoming] = deque()
        self._some = threading.Condition()

    def put(self, incoming: Incoming) -> bool:
        """Take a message; tell whether there was room."""
        with self._some:
            if incoming.topic is None or incoming.topic.endswith(PICTURES):
                self._pictures[incoming.topic] = incoming
            elif len(self._line) < self._waiting_max:
                self._line.append(incoming)
            else:
                return False
            self._some.notify()
            return True

    def get(self, timeout: float) -> Incoming:
        """Return the next message, pictures first; raise `queue.Empty` when none comes within
        ``timeout`` seconds."""
        with self._some:
            if not self._some.wait_for(lambda: self._pictures or self._line, timeout):
                raise queue.Empty
            if self._pictures:
                return self._pictures.pop(next(iter(self._pictures)))
            return self._line.popleft()
