"""One client's connection: requests in, answers out, with bounds on time and memory.

The socket does not block: whatever waits, waits in `select.poll` with a deadline, and the wait for the
next request can be ended by another thread without a byte being read. So a connection between two
requests can be given away as a whole.
"""

import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from fleet_agent.worker.http1 import CONTINUE, HEAD_BYTES_MAX, HEAD_END, Head, Refused, parse_head

BUFFER_BYTES: Final = 64 * 1024
"""What one read takes at most: a request of usual size with its body."""
MESSAGE_WITHIN_S: Final = 60.0
"""A request must be there, and an answer taken, so long after its first byte."""
HANG_UP_WITHIN_S: Final = 1.0
HANG_UP_BYTES_MAX: Final = 32 * 1024 * 1024
PARTS_MAX: Final = 512
"""Of one answer at a time; the kernel takes 1024 (IOV_MAX)."""


class Gone(Exception):
    """The client closed the connection, or stopped in the middle of a request."""


@dataclass(frozen=True)
class Incoming:
    """``body`` is valid until the next read."""

    head: Head
    body: memoryview


class Stream:
    """Used by one thread, which calls `wait`, `read_head`, `read_body`, `send`, and again. ``wake``: a file
    descriptor that ends the wait for a request once it can be read."""

    def __init__(self, connection: socket.socket, wake: int) -> None:
        connection.setblocking(False)
        self.connection = connection
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._wake = wake
        self._idle = select.poll()
        self._idle.register(connection, select.POLLIN)
        self._idle.register(wake, select.POLLIN)

    def wait(self) -> bool:
        """Wait for a request; return whether one has begun: false when the wait was ended before."""
        self._skip_empty_lines()
        if self._start < self._end:
            return True
        ready = self._idle.poll()
        return any(fd != self._wake for fd, _ in ready)

    def wait_for_more(self) -> None:
        """Wait for a request, or for the end of the connection, whatever else happens."""
        poller = select.poll()
        poller.register(self.connection, select.POLLIN)
        poller.poll()

    def read_head(self) -> Head:
        """Return the next head. Raises `Refused`, or `Gone` when there is none or half of one."""
        deadline_s = time.monotonic() + MESSAGE_WITHIN_S
        while (found := self._find_end()) < 0:
            if self._end - self._start > HEAD_BYTES_MAX:
                raise Refused(431, f"a head may have at most {HEAD_BYTES_MAX} bytes")
            self._make_room()
            self._end += self._receive(self._view[self._end :], deadline_s)
        raw = bytes(self._view[self._start : found])
        if len(raw) > HEAD_BYTES_MAX:
            raise Refused(431, f"a head may have at most {HEAD_BYTES_MAX} bytes")
        self._start = found + len(HEAD_END)
        return parse_head(raw)

    def read_body(self, head: Head) -> memoryview:
        """Return the body that belongs to ``head``; its length was judged by the caller."""
        here = min(head.length, self._end - self._start)
        begin, self._start = self._start, self._start + here
        if here == head.length:
            return self._view[begin : self._start]
        if head.expects_continue and not here:
            self.send((CONTINUE,))
        deadline_s = time.monotonic() + MESSAGE_WITHIN_S
        body = memoryview(bytearray(head.length))
        body[:here] = self._view[begin : self._start]
        while here < head.length:
            here += self._receive(body[here:], deadline_s)
        return body

    def send(self, parts: Sequence[bytes]) -> None:
        """Send all parts in order, in one system call where the kernel takes them. Raises `Gone`."""
        deadline_s = time.monotonic() + MESSAGE_WITHIN_S
        left = [part for part in parts if part]
        while left:
            try:
                sent = self.connection.sendmsg(left[:PARTS_MAX])
            except BlockingIOError:
                self._wait_for(select.POLLOUT, deadline_s)
                continue
            except OSError as exc:
                raise Gone from exc
            left = _drop(left, sent)

    def hang_up(self) -> None:
        """End the connection so that the last answer arrives: closed with bytes unread, the kernel would
        reset it, and the client might lose what it has not read yet (RFC 9112 section 9.6)."""
        with suppress(OSError, Gone):
            self.connection.shutdown(socket.SHUT_WR)
            deadline_s, dropped = time.monotonic() + HANG_UP_WITHIN_S, 0
            while dropped < HANG_UP_BYTES_MAX:
                dropped += self._receive(self._view, deadline_s)

    def _receive(self, room: memoryview, deadline_s: float) -> int:
        while True:
            try:
                count = self.connection.recv_into(room)
            except BlockingIOError:
                self._wait_for(select.POLLIN, deadline_s)
                continue
            except OSError as exc:
                raise Gone from exc
            if not count:
                raise Gone
            return count

    def _wait_for(self, event: int, deadline_s: float) -> None:
        poller = select.poll()
        poller.register(self.connection, event)
        left_ms = (deadline_s - time.monotonic()) * 1000
        if left_ms <= 0 or not poller.poll(left_ms):
            raise Gone

    def _find_end(self) -> int:
        """Return where the head ends, below 0 as long as it does not."""
        self._skip_empty_lines()
        return self._buffer.find(HEAD_END, self._start, self._end)

    def _skip_empty_lines(self) -> None:
        """Some clients send an empty line after a body (RFC 9112 section 2.2): no request begins with it."""
        while self._buffer.startswith(b"\r\n", self._start, self._end):
            self._start += 2

    def _make_room(self) -> None:
        """Move what is left to the front of the buffer, once all before it is done with."""
        if self._start:
            kept = bytes(self._view[self._start : self._end])
            self._view[: len(kept)] = kept
            self._start, self._end = 0, len(kept)


def _drop(parts: list[bytes], sent: int) -> list[bytes]:
    """Return what is left of ``parts`` after ``sent`` bytes."""
    while parts and sent >= len(parts[0]):
        sent -= len(parts[0])
        parts = parts[1:]
    return [parts[0][sent:], *parts[1:]] if sent else parts
