"""Errors as RFC 9457 problem documents. The one table of error class and HTTP status."""

import errno
import logging
import math
from collections.abc import Mapping
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fleet_cloud.client.views import Problem
from fleet_cloud.errors import (
    CloudError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    SettingsError,
    TooMany,
    Unavailable,
)
from fleet_shared.errors import FleetError, InvalidName, MessageError

log = logging.getLogger(__name__)

STATUSES: Final[tuple[tuple[type[FleetError], int], ...]] = (
    (NotFound, 404),
    (Conflict, 409),
    (Forbidden, 403),
    (Invalid, 422),
    (InvalidName, 422),
    (MessageError, 422),
    (TooMany, 429),
    (Unavailable, 503),
    (SettingsError, 503),
    (CloudError, 500),
    (FleetError, 500),
)
BY_CODE: Final = {
    "api.token.ended": 401,
    "api.unauthorized": 401,
    "blob.too_large": 413,
    "enrol.attempts": 429,
    "message.too_large": 413,
    "release.full": 507,
    "request.media": 415,
    "request.slow": 408,
    "request.too_large": 413,
}
HEADERS: Final[dict[int, dict[str, str]]] = {
    401: {"WWW-Authenticate": "Bearer"},
    408: {"Connection": "close"},
    429: {"Retry-After": "60"},
    503: {"Retry-After": "5"},
}
DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
HINTS: Final = {
    404: "check the name; /api/docs shows all routes",
    405: "the Allow header names the methods of this route",
    409: "look at what is there, then choose another name",
    422: "/api/docs shows what is expected",
    503: "try again; the controller's log says what is away",
}
"""Where the error itself has none."""


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem document."""
    app.add_exception_handler(FleetError, _on_fleet_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(OSError, _on_disk)
    app.add_exception_handler(Exception, _on_defect)


def status_of(error: FleetError) -> int:
    if error.code in BY_CODE:
        return BY_CODE[error.code]
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def _answer(
    status: int,
    code: str,
    title: str,
    detail: str,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    problem = Problem(
        type=f"urn:fleet:error:{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        hint=hint or HINTS.get(status, "the controller's log says more"),
    )
    return Response(
        msgspec.json.encode(problem),
        status,
        {**HEADERS.get(status, {}), **(headers or {})},
        media_type="application/problem+json",
    )


async def _on_fleet_error(_request: Request, exc: Exception) -> Response:
    error = exc if isinstance(exc, FleetError) else FleetError(str(exc))
    headers = {"Retry-After": str(math.ceil(error.wait_s))} if isinstance(error, TooMany) else None
    return _answer(status_of(error), error.code, type(error).__name__, error.message, error.hint, headers)


async def _on_validation_error(_request: Request, exc: Exception) -> Response:
    errors = exc.errors() if isinstance(exc, RequestValidationError) else []
    detail = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in errors)
    return _answer(422, "request.invalid", "Invalid request", detail)


async def _on_http_error(request: Request, exc: Exception) -> Response:
    """Pass on what the framework refuses, with its headers: ``Allow``, above all."""
    if not isinstance(exc, HTTPException):
        return await _on_defect(request, exc)
    detail = f"{request.method} {request.url.path}: {exc.detail}"
    return _answer(exc.status_code, f"http.{exc.status_code}", "Request refused", detail, headers=exc.headers)


async def _on_disconnect(request: Request, _exc: Exception) -> Response:
    """Nobody reads the answer; a sender that goes away is no defect."""
    log.info("%s %s was cut off by the client", request.method, request.url.path)
    return _answer(400, "request.cut", "Request cut off", "the body ended early", "send it again")


async def _on_disk(request: Request, exc: Exception) -> Response:
    """A full disk is no defect, wherever it is met: keys, register and releases are files."""
    if not isinstance(exc, OSError) or exc.errno not in DISK_ERRORS:
        return await _on_defect(request, exc)
    log.error("%s %s failed: %s", request.method, request.url.path, exc)
    full = Unavailable(
        f"the controller's data folder cannot be written: {exc.strerror}",
        hint="free space there, and repeat it",
        code="disk.full",
    )
    return await _on_fleet_error(request, full)


async def _on_defect(request: Request, exc: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=exc)
    return _answer(500, "controller.failed", "Internal error", "this is a defect of Fleet", "see the log")
