"""The public keys that an OpenID provider publishes (OpenID Connect Discovery 1.0, section 4)."""

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import jwt

from fleet_cloud.addresses import is_loopback

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 5.0
DOCUMENT_BYTES_MAX: Final = 256 * 1024


class _NotToBeHad(Exception):
    pass


def fetch_keys(issuer: str) -> Mapping[str | None, jwt.PyJWK] | None:
    """Return the issuer's keys by id, none (with a line in the log) when they cannot be had."""
    try:
        return _parse_keys(_fetch(_find_keys(issuer)))
    except (_NotToBeHad, OSError, ValueError, urllib.error.URLError) as exc:
        log.warning("the keys of the issuer %s cannot be had: %s", issuer, exc)
        return None


def _find_keys(issuer: str) -> str:
    document = _fetch(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if document.get("issuer") != issuer:
        raise _NotToBeHad(f"it calls itself {document.get('issuer')!r}")
    return str(document.get("jwks_uri"))


def _parse_keys(document: Mapping[str, Any]) -> Mapping[str | None, jwt.PyJWK]:
    """Keys of a kind that is not known here are left out, and so are those that encrypt, and secrets."""
    listed = document.get("keys")
    keys: dict[str | None, jwt.PyJWK] = {}
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig" or one.get("kty") == "oct":
            continue
        try:
            keys[one.get("kid")] = jwt.PyJWK(one)
        except jwt.PyJWTError as exc:
            log.info("a key of the issuer is of no use: %s", exc)
    if not keys:
        raise _NotToBeHad("it publishes no key that can be used")
    return keys


def _fetch(url: str) -> Mapping[str, Any]:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise _NotToBeHad(f"{url!r} is not HTTPS")
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310
    with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
        content = answer.read(DOCUMENT_BYTES_MAX + 1)
    if len(content) > DOCUMENT_BYTES_MAX:
        raise _NotToBeHad(f"{url} has more than {DOCUMENT_BYTES_MAX} bytes")
    found = json.loads(content)
    if not isinstance(found, dict):
        raise _NotToBeHad(f"{url} is no JSON object")
    return found


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What answers at the issuer's own address counts, not what that points to: HTTPS would be lost."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirects)
