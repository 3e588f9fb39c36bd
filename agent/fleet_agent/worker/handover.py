"""Connections that wait for their next request go from a worker that leaves to the one that follows.

A server that closes a connection cannot know whether a request is on its way: a client that sends in
that very moment fails, unless it tries again, which many do not for a POST. So nothing is closed: the
connection itself travels, with whatever has arrived on it, through a pair of Unix sockets that the
supervisor keeps open (see `serving`). What nobody takes yet waits in there.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_ONE: Final = b"c"


@dataclass(frozen=True)
class Handover:
    """``giving`` and ``taking`` are the two ends of one pair."""

    giving: socket.socket
    taking: socket.socket

    def give(self, connection: socket.socket) -> bool:
        """Pass the connection on; return whether that went well. The caller's own copy stays open."""
        try:
            socket.send_fds(self.giving, [_ONE], [connection.fileno()], socket.MSG_DONTWAIT)
        except OSError:  # the pair is full, or gone
            return False
        return True

    def take(self) -> socket.socket | None:
        """Return a connection that was passed on; none when another worker was faster."""
        try:
            _, fds, _, _ = socket.recv_fds(self.taking, len(_ONE), 1, socket.MSG_DONTWAIT)
        except OSError:
            return None
        if not fds:
            return None
        os.set_inheritable(fds[0], False)
        return socket.socket(fileno=fds[0])


def split(sockets: Sequence[socket.socket]) -> tuple[list[socket.socket], Handover | None]:
    """Return the listening sockets among those that the supervisor lends, and the pair, if there is one."""
    listening = [one for one in sockets if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
    rest = [one for one in sockets if one not in listening]
    return listening, Handover(*rest) if len(rest) == 2 else None
