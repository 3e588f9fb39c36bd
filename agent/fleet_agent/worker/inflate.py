"""Bodies that a client compressed, inflated to a bound. Answers are never compressed: they travel
through memory, where compression only costs time."""

import zlib
from typing import Final

from fleet_agent.worker.http1 import Refused

_WINDOWS: Final = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def inflate(body: memoryview, encoding: str, bytes_max: int) -> memoryview:
    """Return the plain body, of at most ``bytes_max``. Raises `Refused`: 415, 413 or 400.

    ``deflate`` is the zlib format (RFC 9110 section 8.4.1.2).
    """
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return body
    if name not in _WINDOWS:
        raise Refused(415, f"Content-Encoding may be gzip or deflate, got {encoding!r}")
    decoder = zlib.decompressobj(_WINDOWS[name])
    try:
        plain = decoder.decompress(body, bytes_max + 1)
    except zlib.error as exc:
        raise Refused(400, f"the body is not {name}: {exc}") from exc
    if len(plain) > bytes_max:
        raise Refused(413, f"a request may have at most {bytes_max} bytes, inflated")
    if not decoder.eof or decoder.unused_data:
        raise Refused(400, f"the body is not one whole {name} stream")
    return memoryview(plain)
