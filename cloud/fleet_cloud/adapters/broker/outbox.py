"""What waits to be sent to one client: bounded in number, bytes and time.

amqtt starts a task for each message and client, and keeps them all while a client does not read. Who does
not keep up is cut off instead: it finds the pictures again when it comes back, and nothing else that passes
the broker is said only once. What the broker had kept is put in beyond the bounds, since it is held anyway.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW_MESSAGES: Final = 100
"""Messages of quality of service 1 that a client has not acknowledged yet."""

BUSY_MESSAGES: Final = 2_000
"""Who has more to read than this is busy, until it has half of it."""

ACK_TIMEOUT_S: Final = 60.0
PACKET_ID_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class Bounds:
    messages: int
    bytes: int


DEVICE: Final = Bounds(messages=1_000, bytes=16 * 1024 * 1024)
CONTROLLER: Final = Bounds(messages=20_000, bytes=128 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class Message:
    """``qos``: 0 or 1; the broker grants no more."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Outbox:
    """Filled without waiting, emptied by one task."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._unacknowledged: set[int] = set()
        self._packet_id = 0
        self._some = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Message, *, kept: bool = False) -> bool:
        """Take a message; tell whether there was room. One that the broker had ``kept`` has room always."""
        full = len(self._waiting) >= self._bounds.messages or self._bytes >= self._bounds.bytes
        if full and not kept:
            return False
        self._waiting.append(message)
        self._bytes += len(message.payload)
        self._some.set()
        if len(self._waiting) > BUSY_MESSAGES:
            self._roomy.clear()
        return True

    async def wait_until_roomy(self) -> None:
        """Return as soon as the client keeps up, or is gone."""
        await self._roomy.wait()

    def close(self) -> None:
        """Let go who waits for room: there will be none."""
        self._roomy.set()

    async def get(self) -> tuple[Message, int | None]:
        """Return the next message, with its number for quality of service 1. Raises `TimeoutError` when
        the client acknowledges nothing of what it was sent."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        if self._waiting[0].qos:
            await self._wait_for_window()
        message = self._waiting.popleft()
        self._bytes -= len(message.payload)
        if len(self._waiting) <= BUSY_MESSAGES // 2:
            self._roomy.set()
        return message, self._number() if message.qos else None

    def acknowledge(self, packet_id: int) -> None:
        """Forget a number; one that was not given is nothing to do about."""
        self._unacknowledged.discard(packet_id)
        self._acknowledged.set()

    async def _wait_for_window(self) -> None:
        async with asyncio.timeout(ACK_TIMEOUT_S):
            while len(self._unacknowledged) >= WINDOW_MESSAGES:
                self._acknowledged.clear()
                await self._acknowledged.wait()

    def _number(self) -> int:
        while True:
            self._packet_id = self._packet_id % PACKET_ID_MAX + 1
            if self._packet_id not in self._unacknowledged:
                self._unacknowledged.add(self._packet_id)
                return self._packet_id
