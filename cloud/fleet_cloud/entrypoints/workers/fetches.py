"""Questions of devices, and their answers: blobs and release files over the broker among them.

Fair and bounded everywhere. Devices take turns, however much one of them asks; what does not fit is dropped,
for whoever needs an answer asks again; and no more parts are handed to the MQTT client than the broker has
taken, so that neither its queue nor what waits behind it grows.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from fleet_cloud.services.fetching import Fetching
from fleet_cloud.turns import Turns
from fleet_shared.messages.fetch import Fetch, encode_chunk
from fleet_shared.names import DeviceId
from fleet_shared.topics import Channel, Topics

log = logging.getLogger(__name__)

DEVICE_WAITING_MAX: Final = 12
"""More than an honest device has outstanding (parts of a blob and of a release file, an address, a
certificate); of more, its newest questions count."""
WAITING_MAX: Final = 4_000
IN_FLIGHT_MAX: Final = 8
"""Answers with content, of one worker, that the broker has not taken yet."""
WAIT_S: Final = 0.5


class FetchQueue:
    """Written by the ingest worker, read by those who answer."""

    def __init__(self, waiting_max: int = WAITING_MAX) -> None:
        self._waiting: Turns[DeviceId, Fetch] = Turns(DEVICE_WAITING_MAX, waiting_max)
        self._some = threading.Condition()

    def put(self, device: DeviceId, fetch: Fetch) -> None:
        """Take a question, unless too many wait. One that waits already is not asked twice."""
        with self._some:
            line = self._waiting.line(device)
            if any(one.request == fetch.request for one in line):
                return
            if len(line) >= DEVICE_WAITING_MAX:
                self._waiting.drop_first(device)
            if self._waiting.add(device, fetch):
                self._some.notify()
            else:
                log.debug("a question of %s is dropped: too many wait", device)

    def take(self, timeout_s: float) -> tuple[DeviceId, Fetch] | None:
        """Return the oldest question of the device whose turn it is; none when none comes in time."""
        with self._some:
            return self._waiting.take() if self._some.wait_for(lambda: self._waiting, timeout_s) else None


class Sent(Protocol):
    """A message on its way to the broker."""

    def is_published(self) -> bool: ...

    def wait_for_publish(self, timeout: float | None = None) -> None: ...


@dataclass(slots=True)
class Fetches:
    """One worker; there may be several on one queue. ``send`` gives none while the broker is away."""

    waiting: FetchQueue
    topics: Topics
    fetching: Fetching
    send: Callable[[str, bytes], Sent | None]
    _in_flight: deque[Sent] = field(default_factory=deque)

    def turn(self) -> float:
        if not self._has_room():
            return 0.0
        if (taken := self.waiting.take(WAIT_S)) is None:
            return 0.0
        device, fetch = taken
        reply = self.fetching.answer(device, fetch)
        raw = encode_chunk(reply.chunk, reply.content)
        sent = self.send(self.topics.device(device, Channel.CHUNK), raw)
        if sent is not None and reply.content:
            self._in_flight.append(sent)
        return 0.0

    def _has_room(self) -> bool:
        """Tell whether another answer may be sent; wait a moment for that."""
        if len(self._in_flight) >= IN_FLIGHT_MAX and not self._in_flight[0].is_published():
            self._in_flight[0].wait_for_publish(WAIT_S)
        while self._in_flight and self._in_flight[0].is_published():
            self._in_flight.popleft()
        return len(self._in_flight) < IN_FLIGHT_MAX
