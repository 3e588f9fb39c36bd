"""Bodies in and out: msgspec, with limits."""

from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import Depends, Request, Response

from fleet_cloud.entrypoints.api.reading import read_parts
from fleet_cloud.errors import Invalid

BODY_BYTES_MAX: Final = 8 * 1024 * 1024

T = TypeVar("T")


class BodyOf:
    """A dependency that reads the whole body. Raises `Invalid` for another type than JSON (which a web page
    could send to any host without asking), and beyond ``bytes_max``, before the rest is read."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max

    async def __call__(self, request: Request) -> bytes:
        _check_kind(request)
        length = request.headers.get("Content-Length", "")
        if length.isdigit() and int(length[:20]) > self.bytes_max:
            raise self._too_large()
        body = bytearray()
        async for part in read_parts(request):
            body += part
            if len(body) > self.bytes_max:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> Invalid:
        return Invalid(
            f"the body has more than {self.bytes_max} bytes",
            hint="models and data are blobs: PUT /api/v1/blobs/SHA256",
            code="request.too_large",
        )


def _check_kind(request: Request) -> None:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Invalid(
            f"the body is declared as {kind or 'nothing'!r}",
            hint="send JSON, with Content-Type: application/json",
            code="request.media",
        )


Body = Annotated[bytes, Depends(BodyOf(BODY_BYTES_MAX))]


def parse(kind: type[T], body: bytes) -> T:
    """Return ``body`` as a ``kind``; raise `Invalid` (``request.invalid``) naming the field."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Invalid(
            f"the request does not parse: {exc}",
            hint="/api/docs shows what is expected",
            code="request.invalid",
        ) from exc


def answer(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
