"""What devices said and nobody has read yet, in bounded memory and without losing what is said once.

Presence and reports are pictures: a newer one replaces an older one of the same topic, so that they need
at most one place for each topic, and none is dropped. Everything else waits in bounded lines, one for each
topic, that take turns; what does not fit is dropped, and comes again by itself: telemetry until it is
acknowledged, questions until they are answered. So a device that floods the broker waits for itself.
"""

import queue
import threading
from dataclasses import dataclass
from typing import Final

from fleet_cloud.turns import Turns
from fleet_shared.topics import Channel

TOPIC_WAITING_MAX: Final = 100
"""An honest device has one batch and a few questions on their way."""
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
        self._pictures: dict[str | None, Incoming] = {}
        self._seen: set[str | None] = set()
        """Topics whose picture was given since the lines had their turn."""
        self._lines: Turns[str, Incoming] = Turns(TOPIC_WAITING_MAX, waiting_max)
        self._some = threading.Condition()

    def put(self, incoming: Incoming) -> bool:
        """Take a message; tell whether there was room."""
        with self._some:
            if incoming.topic is None or incoming.topic.endswith(PICTURES):
                self._pictures[incoming.topic] = incoming
            elif not self._lines.add(incoming.topic, incoming):
                return False
            self._some.notify()
            return True

    def get(self, timeout: float) -> Incoming:
        """Return the next message, pictures first, but none of a topic twice while other messages wait;
        raise `queue.Empty` when none comes within ``timeout`` seconds."""
        with self._some:
            if not self._some.wait_for(lambda: self._pictures or self._lines, timeout):
                raise queue.Empty
            topic = next(iter(self._pictures), None)
            if self._pictures and not (self._lines and topic in self._seen):
                self._seen.add(topic)
                return self._pictures.pop(topic)
            self._seen.clear()
            return self._lines.take()[1]
