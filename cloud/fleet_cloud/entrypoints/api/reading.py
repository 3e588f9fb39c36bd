"""Request bodies, read part by part with a deadline for each: a slow sender is let go."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from fastapi import Request

from fleet_cloud.errors import Invalid

PART_BYTES: Final = 64 * 1024
PART_TIMEOUT_S: Final = 30.0
"""Within this time a part must have arrived: at least 2 KiB a second."""


async def read_parts(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the body in parts of `PART_BYTES` or a little more, the last one shorter. Raises
    `Invalid` (``request.slow``), and starlette's `ClientDisconnect`."""
    stream = aiter(request.stream())
    ended = False
    while not ended:
        part = bytearray()
        try:
            async with asyncio.timeout(PART_TIMEOUT_S):
                while len(part) < PART_BYTES and not ended:
                    try:
                        part += await anext(stream)
                    except StopAsyncIteration:
                        ended = True
        except TimeoutError as exc:
            raise Invalid(
                f"the body stopped: {len(part)} bytes in {PART_TIMEOUT_S:g} s",
                hint="send it again over a faster connection",
                code="request.slow",
            ) from exc
        if part:
            yield bytes(part)
