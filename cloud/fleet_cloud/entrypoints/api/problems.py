"""Errors as RFC 9457 problem documents. The one table of error class and HTTP status."""

import logging
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from fleet_cloud.client.views import Problem
from fleet_cloud.errors import CloudError, Conflict, Forbidden, Invalid, NotFound, SettingsError, Unavailable
from fleet_shared.errors import FleetError, InvalidName, MessageError

log = logging.getLogger(__name__)

STATUSES: Final[tuple[tuple[type[FleetError], int], ...]] = (
    (NotFound, 404),
    (Conflict, 409),
    (Forbidden, 403),
    (Invalid, 422),
    (InvalidName, 422),
    (MessageError, 422),
    (Unavailable, 503),
    (SettingsError, 503),
    (CloudError, 500),
    (FleetError, 500),
)
BY_CODE: Final = {"blob.too_large": 413, "api.unauthorized": 401}


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem document."""
    app.add_exception_handler(FleetError, _on_fleet_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_defect)


def status_of(error: FleetError) -> int:
    if error.code in BY_CODE:
        return BY_CODE[error.code]
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def _answer(status: int, code: str, title: str, detail: str, hint: str = "") -> Response:
    problem = Problem(
        type=f"urn:fleet:error:{code}", title=title, status=status, detail=detail, code=code, hint=hint
    )
    return Response(msgspec.json.encode(problem), status, media_type="application/problem+json")


async def _on_fleet_error(_request: Request, exc: Exception) -> Response:
    error = exc if isinstance(exc, FleetError) else FleetError(str(exc))
    return _answer(status_of(error), error.code, type(error).__name__, error.message, error.hint)


async def _on_validation_error(_request: Request, exc: Exception) -> Response:
    errors = exc.errors() if isinstance(exc, RequestValidationError) else []
    detail = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in errors)
    return _answer(422, "request.invalid", "Invalid request", detail)


async def _on_http_error(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    detail = f"{request.method} {request.url.path}: {exc.detail if isinstance(exc, HTTPException) else exc}"
    return _answer(status, f"http.{status}", "Request refused", detail)


async def _on_defect(request: Request, exc: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=exc)
    return _answer(500, "controller.failed", "Internal error", "this is a defect of Fleet", "see the log")
