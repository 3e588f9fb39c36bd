"""Who may call the operators' routes.

With a token: whoever has it. Without one the controller listens on loopback only, but the web
pages that its operator visits can send requests there too, from his own browser: what names
another host (DNS rebinding) or comes from another origin (cross-site requests) is refused.
"""

import hmac
from urllib.parse import urlsplit

from fastapi import Request

from fleet_cloud.addresses import is_loopback
from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.errors import Forbidden


def check_operator(request: Request, api_token: str) -> Actor:
    """Return who asks; raise `Forbidden` (``api.unauthorized``, ``api.origin``) unless it is the operator."""
    if not api_token:
        _check_origin(request)
    elif not _has_token(request, api_token):
        raise Forbidden(
            "this needs the operator token", hint="--token, or FLEET_TOKEN", code="api.unauthorized"
        )
    return Actor("operator", Role.ADMIN, request.client.host if request.client else "unknown")


def _has_token(request: Request, api_token: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), api_token.encode())


def _check_origin(request: Request) -> None:
    host = request.headers.get("Host", "")
    origin = request.headers.get("Origin")
    if not is_loopback(_host_name(host)):
        raise Forbidden(
            f"without an operator token, requests must name this machine, not {host!r}",
            hint="call http://127.0.0.1 or http://localhost, or set FLEET_API_TOKEN",
            code="api.origin",
        )
    if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        raise Forbidden(
            f"a web page of {origin!r} may not call the controller",
            hint="set FLEET_API_TOKEN, and send it",
            code="api.origin",
        )


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
