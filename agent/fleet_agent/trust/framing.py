"""Messages between the supervisor and the trust child: JSON behind its length, bounded on both sides."""

import struct
from typing import IO, Final

_LENGTH: Final = struct.Struct(">I")
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
"""Base64 makes a file of 5 MB, the longest of the release repository, 7 MB long."""


class FrameError(Exception):
    """The other side ended in the middle of a word, or says too much."""


def write_frame(stream: IO[bytes], content: bytes) -> None:
    if len(content) > FRAME_BYTES_MAX:
        raise FrameError(f"a message has {len(content)} bytes")
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Return the next message, none when the other side has ended. Raises `FrameError`."""
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise FrameError("a message has no whole length")
    (length,) = _LENGTH.unpack(head)
    if length > FRAME_BYTES_MAX:
        raise FrameError(f"a message of {length} bytes is announced")
    content = stream.read(length)
    if len(content) < length:
        raise FrameError(f"a message ends after {len(content)} of {length} bytes")
    return content
