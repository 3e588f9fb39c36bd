"""The Open Inference Protocol over HTTP/1.1, on listening sockets that somebody else owns.

One thread accepts on each socket; each connection has its own thread, up to a bound. A connection is
closed when its client closes it, after an error that leaves its state unknown, and when it was idle
for long and another one waits for its place; never for idleness alone, since a request may be on its
way.

To drain: accept no more, answer what has begun, and hand each connection over to the next worker
between two requests. Where that is not possible, answer each connection's next request with
``Connection: close``, and after the linger close what is idle. The sockets stay open for the next worker.
"""

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from fleet_agent.worker.handover import split
from fleet_agent.worker.http1 import Answer, Head, Refused, write_head
from fleet_agent.worker.oip import Protocol
from fleet_agent.worker.routes import Routes, refuse
from fleet_agent.worker.stream import Gone, Stream

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 64
TAKEN_MAX: Final = 256
"""So many connections beyond those are taken over from other workers: who was let in once stays."""
LARGE_BYTES: Final = 1024 * 1024
LARGE_BODIES_MAX: Final = 2
"""So many bodies of more than `LARGE_BYTES` are in memory at once."""
LARGE_WITHIN_S: Final = 30.0
IDLE_AFTER_S: Final = 60.0
"""A connection without a request for so long gives its place to another that waits."""
ACCEPT_POLL_S: Final = 0.2


@dataclass(eq=False)
class Connection:
    """``idle_since_s``: since when it waits for a request; none while one is answered. ``place``: what it
    gives back at its end."""

    socket: socket.socket
    idle_since_s: float | None
    place: threading.Semaphore


@dataclass
class Server:
    """`start` accepts; `drain` ends it and returns once every connection is closed or handed over.
    ``sockets``: those that listen, and the pair for handing over, if there is one."""

    protocol: Protocol
    sockets: list[socket.socket]
    connections_max: int = CONNECTIONS_MAX
    draining: threading.Event = field(default_factory=threading.Event)
    _open: set[Connection] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _acceptors: list[threading.Thread] = field(default_factory=list)
    _accepts_no_more: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._routes = Routes(self.protocol)
        self._room = threading.BoundedSemaphore(self.connections_max)
        self._taken = threading.BoundedSemaphore(TAKEN_MAX)
        self._large = threading.BoundedSemaphore(LARGE_BODIES_MAX)
        self._listeners, self._handover = split(self.sockets)
        self._wake, self._wakes = os.pipe()

    def start(self) -> None:
        for listener in self._listeners:
            listener.setblocking(False)
        sources = [*self._listeners, *([self._handover.taking] if self._handover else [])]
        for source in sources:
            thread = threading.Thread(target=self._accept, args=(source,), name="accept", daemon=True)
            thread.start()
            self._acceptors.append(thread)

    def drain(self, linger_s: float) -> None:
        self.draining.set()
        os.write(self._wakes, b".")  # nobody reads it: whoever waits is woken from now on
        for thread in self._acceptors:
            thread.join()
        self._accepts_no_more.set()
        deadline_s = time.monotonic() + linger_s
        self._wait_for_end(deadline_s)
        with self._lock:
            idle = [connection for connection in self._open if connection.idle_since_s is not None]
        for connection in idle:
            _shut(connection.socket)
        self._wait_for_end(deadline_s + linger_s)
        if not self._open:
            for end in (self._wake, self._wakes):
                os.close(end)

    def _wait_for_end(self, deadline_s: float) -> None:
        while self._open and time.monotonic() < deadline_s:
            time.sleep(0.02)

    # -- accepting

    def _accept(self, source: socket.socket) -> None:
        poller = select.poll()
        poller.register(source, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while True:
            poller.poll()
            if self.draining.is_set():
                return
            # Both workers wait on this socket during a swap: another may take what woke this one.
            place = self._find_place(source)
            if place is None:
                self._make_room()  # who knocks waits in the backlog
                continue
            connection = self._take(source, place)
            if connection is None:
                place.release()
                continue
            self._start_serving(connection)

    def _find_place(self, source: socket.socket) -> threading.Semaphore | None:
        """Return a place that was free; none when there is none soon. Whoever comes from another worker
        waits for none of the usual ones: others who knocked meanwhile may have taken them all."""
        if self._is_handover(source):
            if self._room.acquire(blocking=False):
                return self._room
            return self._taken if self._taken.acquire(timeout=ACCEPT_POLL_S) else None
        return self._room if self._room.acquire(timeout=ACCEPT_POLL_S) else None

    def _is_handover(self, source: socket.socket) -> bool:
        return self._handover is not None and source is self._handover.taking

    def _start_serving(self, connection: Connection) -> None:
        try:
            threading.Thread(target=self._serve, args=(connection,), name="serve", daemon=True).start()
        except RuntimeError:
            log.error("a connection is closed: no thread can be started for it")
            self._end(connection)

    def _take(self, source: socket.socket, place: threading.Semaphore) -> Connection | None:
        try:
            if self._handover is not None and self._is_handover(source):
                taken = self._handover.take()
            else:
                taken = source.accept()[0]
        except BlockingIOError:
            return None  # another worker was faster
        except OSError as exc:
            log.error("no connection can be accepted: %s", exc)
            self.draining.wait(ACCEPT_POLL_S)  # it goes on waiting in the backlog
            return None
        if taken is None:
            return None
        connection = Connection(taken, time.monotonic(), place)
        with self._lock:
            self._open.add(connection)
        return connection

    def _make_room(self) -> None:
        """End the connection that waited longest for a request, if that is long enough."""
        with self._lock:
            waiting = [(one.idle_since_s, one) for one in self._open if one.idle_since_s is not None]
        since_s, oldest = min(waiting, key=lambda found: found[0], default=(None, None))
        if since_s is not None and oldest is not None and time.monotonic() - since_s > IDLE_AFTER_S:
            _shut(oldest.socket)

    # -- one connection

    def _serve(self, connection: Connection) -> None:
        stays_open = False
        try:
            if connection.socket.family != socket.AF_UNIX:
                connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stays_open = self._answer_all(connection, Stream(connection.socket, self._wake))
        except (Gone, OSError):
            pass  # the client went away
        finally:
            if not stays_open:
                _shut(connection.socket)
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        connection.socket.close()
        with self._lock:
            self._open.discard(connection)
        connection.place.release()

    def _answer_all(self, connection: Connection, stream: Stream) -> bool:
        """Answer request after request; return whether the connection lives on in another worker."""
        closes = False
        while True:
            connection.idle_since_s = time.monotonic()
            if not stream.wait():
                if self._hand_over(stream):
                    return True
                closes = True
                stream.wait_for_more()
            connection.idle_since_s = None
            if not self._answer_one(stream, closes=closes):
                stream.hang_up()
                return False

    def _hand_over(self, stream: Stream) -> bool:
        self._accepts_no_more.wait()  # or this worker would take its own connections back
        return self._handover is not None and self._handover.give(stream.connection)

    def _answer_one(self, stream: Stream, *, closes: bool) -> bool:
        """Answer the next request; return whether another may follow on this connection. ``closes``: this
        is the last one."""
        head: Head | None = None
        try:
            head = stream.read_head()
            with self._room_for(head):
                answer = self._routes.answer(head, stream.read_body(head))
                keeps = head.keep_alive and not (closes or self._leaves_alone())
                self._send(stream, head, answer, keeps=keeps)
        except Refused as exc:
            self._send(stream, head, refuse(exc.status, str(exc)), keeps=False)
            return False
        except MemoryError:
            self._send(stream, head, refuse(503, "not enough memory for this request"), keeps=False)
            return False
        return keeps

    def _leaves_alone(self) -> bool:
        """Whether this worker leaves and has nobody to hand its connections over to."""
        return self.draining.is_set() and self._handover is None

    @contextmanager
    def _room_for(self, head: Head) -> Iterator[None]:
        """Hold what a body needs of the memory for large ones."""
        bytes_max = self._routes.body_bytes_max
        if head.length > bytes_max:
            raise Refused(413, f"a request may have at most {bytes_max} bytes")
        if head.length <= LARGE_BYTES:
            yield
            return
        if not self._large.acquire(timeout=LARGE_WITHIN_S):
            raise Refused(503, "too many large requests at once")
        try:
            yield
        finally:
            self._large.release()

    def _send(self, stream: Stream, head: Head | None, answer: Answer, *, keeps: bool) -> None:
        is_1_0 = head is not None and head.is_1_0
        parts = [write_head(answer, closes=not keeps, is_1_0=is_1_0)]
        if head is None or head.method != "HEAD":
            parts += answer.body
        stream.send(parts)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)
