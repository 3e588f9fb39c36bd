"""Blobs: streamed in, ranges out (RFC 9110)."""

import asyncio
import queue
import re
import threading
from collections.abc import Iterator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.entrypoints.api.access import address_of
from fleet_cloud.entrypoints.api.reading import read_parts
from fleet_cloud.entrypoints.api.roles import Needs, access_of, needs
from fleet_cloud.errors import Invalid
from fleet_cloud.services.blobs import Blobs
from fleet_shared.names import Digest, parse_digest

QUEUED_PARTS: Final = 16
FULL_WAIT_S: Final = 0.005
UPLOADS_AT_ONCE: Final = 16
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class NeedsOrSignature(Needs):
    """A viewer's token; or, from a device, an address that the controller has signed."""

    def __init__(self, blobs: Blobs) -> None:
        super().__init__(Role.VIEWER)
        self._blobs = blobs

    @property
    def declared(self) -> str:
        return f"{self.role.value} or signed address"

    def __call__(
        self,
        request: Request,
        device: str | None = None,
        expires: int | None = None,
        signature: str | None = None,
    ) -> Actor:
        if device is None or expires is None or signature is None:
            return super().__call__(request)
        access_of(request).limits.admit_address(address_of(request))
        digest = parse_digest(request.path_params["sha256"])
        self._blobs.signer.check(digest, device, expires, signature)
        return Actor(device, Role.VIEWER, address_of(request))


def blob_routes(blobs: Blobs) -> APIRouter:
    router = APIRouter(prefix="/api/v1/blobs", tags=["blobs"])
    uploads = CapacityLimiter(UPLOADS_AT_ONCE)

    @router.put("/{sha256}")
    async def put_blob(by: Annotated[Actor, needs(Role.OPERATOR)], sha256: str, request: Request) -> Response:
        digest = parse_digest(sha256)
        return Response(status_code=201 if await _store(blobs, digest, request, uploads, by) else 200)

    @router.head("/{sha256}", dependencies=[needs(Role.VIEWER)])
    def head_blob(sha256: str) -> Response:
        info = blobs.info(parse_digest(sha256))
        return Response(headers={"Content-Length": str(info.size_bytes), "ETag": f'"{sha256}"'})

    @router.get("/{sha256}", dependencies=[Depends(NeedsOrSignature(blobs))])
    def get_blob(sha256: str, request: Request) -> Response:
        """For devices: ``device``, ``expires`` and ``signature`` as in the address that they were given."""
        return serve_blob(blobs, parse_digest(sha256), request)

    return router


async def _store(blobs: Blobs, digest: Digest, request: Request, uploads: CapacityLimiter, by: Actor) -> bool:
    """Stream the body into the store, which works in a thread; tell whether the blob is new.

    Threads that wait for senders are their own: slow ones must not keep other requests waiting.
    """
    parts: queue.Queue[bytes | None] = queue.Queue(QUEUED_PARTS)
    cut = threading.Event()
    write = partial(blobs.put, digest, _drain(parts, cut), by)
    writer = asyncio.create_task(to_thread.run_sync(write, limiter=uploads))
    try:
        async with aclosing(read_parts(request)) as stream:
            async for part in stream:
                if not await _hand_over(parts, part, writer):
                    break
    except BaseException:
        cut.set()
        raise
    finally:
        # Without its end the writer would wait for ever; and its failure must be looked at.
        await _hand_over(parts, None, writer)
        await asyncio.wait([writer])
        if cut.is_set():
            writer.exception()
    _, created = writer.result()
    return created


async def _hand_over(
    parts: "queue.Queue[bytes | None]", part: bytes | None, writer: "asyncio.Task[Any]"
) -> bool:
    """Queue one part, waiting for room; false when the writer has ended."""
    while not writer.done():
        try:
            parts.put_nowait(part)
        except queue.Full:
            await asyncio.sleep(FULL_WAIT_S)
        else:
            return True
    return False


def _drain(parts: "queue.Queue[bytes | None]", cut: threading.Event) -> Iterator[bytes]:
    while (part := parts.get()) is not None:
        yield part
    if cut.is_set():
        raise Invalid("the upload was cut off", hint="send the blob again", code="blob.cut")


def serve_blob(blobs: Blobs, digest: Digest, request: Request) -> Response:
    """Stream a blob, or the range of it that is asked for."""
    size = blobs.info(digest).size_bytes
    etag = f'"{digest}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes"}
    span = parse_range(request.headers.get("Range"), size)
    if request.headers.get("If-Range", etag) != etag:
        span = None
    if span == UNSATISFIABLE:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    start, end = span or (0, size)
    headers["Content-Length"] = str(end - start)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return StreamingResponse(
        blobs.read(digest, start, end),
        status_code=206 if span else 200,
        headers=headers,
        media_type="application/octet-stream",
    )


UNSATISFIABLE: Final = (0, 0)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return [start, end) of a single range, none for the whole, `UNSATISFIABLE` for one outside.

    Several ranges and what does not parse count as none, as RFC 9110 section 14.2 allows.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    if last and first and int(last) < int(first):
        return None
    return (start, end) if start < end else UNSATISFIABLE
