"""HTTP/1.1 as the inference server speaks it (RFC 9112), strictly: heads in, heads out, no sockets.

What is ambiguous is refused, never guessed: that is how requests are smuggled. Bodies have a
``Content-Length``; chunked ones are refused (411), since an inference request knows its size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

HEAD_BYTES_MAX: Final = 16 * 1024
HEADERS_MAX: Final = 64
LENGTH_DIGITS_MAX: Final = 18
HEAD_END: Final = b"\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CONTROL: Final = bytes(set(range(32)) - {9}) + b"\x7f"
_SINGLE: Final = frozenset(
    {"content-length", "content-encoding", "expect", "host", "inference-header-content-length"}
)
"""Headers that mean nothing when they come twice."""
_STATUS_LINES: Final = MappingProxyType(
    {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
)


class Refused(Exception):
    """A request that is answered with ``status`` and this sentence; its connection is closed, since
    nobody knows where the next request would begin."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Head:
    """``path`` is without query and still percent-encoded. Names of headers are in lower case. ``length``
    is that of the body; ``keep_alive`` is what the client wants."""

    method: str
    path: str
    is_1_0: bool
    headers: Mapping[str, str]
    length: int
    keep_alive: bool
    expects_continue: bool


@dataclass(frozen=True)
class Answer:
    """``body`` is sent in parts, one after the other."""

    status: int
    body: tuple[bytes, ...]
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def parse_head(raw: bytes) -> Head:
    """Return the head of a request; ``raw`` ends before the empty line. Raises `Refused`."""
    first, *lines = raw.split(b"\r\n")
    method, path, is_1_0 = _parse_request_line(first)
    headers = _parse_headers(lines)
    if "host" not in headers and not is_1_0:
        raise Refused(400, "a Host header is needed")
    wishes = {word.strip() for word in headers.get("connection", "").lower().split(",")}
    return Head(
        method=method,
        path=path,
        is_1_0=is_1_0,
        headers=headers,
        length=_parse_length(method, headers),
        keep_alive="keep-alive" in wishes if is_1_0 else "close" not in wishes,
        expects_continue=_parse_expect(headers, is_1_0=is_1_0),
    )


def write_head(answer: Answer, *, closes: bool, is_1_0: bool = False) -> bytes:
    """Return the head of an answer, with its empty line."""
    parts = [
        _STATUS_LINES[answer.status],
        b"Content-Type: %s\r\nContent-Length: %d\r\n"
        % (answer.content_type.encode(), sum(map(len, answer.body))),
    ]
    parts += [f"{name}: {value}\r\n".encode("latin-1") for name, value in answer.headers]
    if closes:
        parts.append(b"Connection: close\r\n")
    elif is_1_0:
        parts.append(b"Connection: keep-alive\r\n")
    return b"".join([*parts, b"\r\n"])


def _parse_request_line(line: bytes) -> tuple[str, str, bool]:
    words = line.split(b" ")
    if len(words) != 3 or not words[0] or words[0].translate(None, _TOKEN):
        raise Refused(400, "the first line must be METHOD TARGET HTTP/1.1")
    method, target, version = words
    if version not in {b"HTTP/1.1", b"HTTP/1.0"}:
        known = version.startswith(b"HTTP/") and version[5:6].isdigit()
        raise Refused(505 if known else 400, "the protocol must be HTTP/1.1 or HTTP/1.0")
    if target.lower().startswith(b"http://"):  # absolute form, RFC 9112 section 3.2.2
        target = b"/" + target[7:].partition(b"/")[2]
    if not (target.startswith(b"/") and target.isascii()) or target.translate(None, _CONTROL) != target:
        raise Refused(400, "the target must be a path, such as /v2")
    return method.decode("ascii"), target.partition(b"?")[0].decode("ascii"), version == b"HTTP/1.0"


def _parse_headers(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > HEADERS_MAX:
        raise Refused(431, f"a request may have at most {HEADERS_MAX} headers")
    headers: dict[str, str] = {}
    for line in lines:
        raw_name, colon, raw_value = line.partition(b":")
        # A name that begins or ends with space (a folded line, "Content-Length :") is no token.
        if not colon or not raw_name or raw_name.translate(None, _TOKEN):
            raise Refused(400, "each header must be NAME: VALUE on one line")
        if raw_value.translate(None, _CONTROL) != raw_value:
            raise Refused(400, "a header has control characters")
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1").strip(" \t")
        if name in headers:
            if name in _SINGLE:
                raise Refused(400, f"the header {name} came twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _parse_length(method: str, headers: Mapping[str, str]) -> int:
    length = headers.get("content-length")
    if "transfer-encoding" in headers:
        if length is not None:
            raise Refused(400, "a request has either Content-Length or Transfer-Encoding")
        raise Refused(411, "Content-Length is needed: chunked bodies are not read")
    if length is None:
        if method == "POST":
            raise Refused(411, "Content-Length is needed")
        return 0
    if not (length.isascii() and length.isdigit()):
        raise Refused(400, "Content-Length must be a whole number")
    if len(length) > LENGTH_DIGITS_MAX:
        raise Refused(413, "the body is too large")
    return int(length)


def _parse_expect(headers: Mapping[str, str], *, is_1_0: bool) -> bool:
    expected = headers.get("expect")
    if expected is None or is_1_0:
        return False
    if expected.lower() != "100-continue":
        raise Refused(417, "only 100-continue can be expected")
    return True
