"""Bearer tokens of an OpenID provider (OpenID Connect Core 1.0, RFC 7519, RFC 7517).

Fails closed: what cannot be checked does not count. Only signatures with a public key are allowed, so that
nobody can sign with what the provider publishes; the provider's keys are fetched again as they grow old, or
when a token names another, and not more often than `FETCH_AGAIN_S` whatever tokens name.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

from fleet_cloud.adapters.oidc.keys import fetch_keys
from fleet_cloud.errors import Forbidden, Unavailable
from fleet_cloud.services.ports import Identity

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
REQUIRED: Final = ("exp", "iat", "iss", "aud", "sub")
LEEWAY_S: Final = 30
KEYS_FRESH_S: Final = 300.0
"""A key that the provider withdrew counts for so long at most, while the provider answers."""

KEYS_LIFE_S: Final = 3600.0
"""And for so long while it does not."""

FETCH_AGAIN_S: Final = 10.0
OTHERS_WAIT_S: Final = 1.0
"""For keys that somebody else is fetching already."""

Keys = Mapping[str | None, jwt.PyJWK]


@dataclass
class OpenIdIssuer:
    """Implements `Issuer`; may be used from many threads."""

    issuer: str
    audience: str
    role_claim: str
    name_claim: str
    monotonic_s: Callable[[], float] = time.monotonic
    _keys: Keys = field(default_factory=dict)
    _fetched_s: float | None = None
    _tried_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _idle: threading.Event = field(default_factory=threading.Event)

    def verify(self, token: str) -> Identity:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise _refused(f"it is signed by {header.get('alg')!r}")
            claims = jwt.decode(
                token,
                self._key(header.get("kid")),
                algorithms=ALGORITHMS,
                audience=self.audience,
                issuer=self.issuer,
                leeway=LEEWAY_S,
                options={"require": list(REQUIRED)},
            )
        except jwt.PyJWTError as exc:
            raise _refused(str(exc)) from exc
        return self._identity(claims)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        name, groups = claims.get(self.name_claim), _find(claims, self.role_claim)
        if not isinstance(name, str) or not name.isprintable() or not name:
            raise _refused(f"it has no claim {self.name_claim!r} with a name")
        listed = groups if isinstance(groups, list) else [groups]
        return Identity(name, frozenset(group for group in listed if isinstance(group, str)))

    def _key(self, kid: object) -> jwt.PyJWK:
        self._refresh(kid)
        with self._lock:
            if self._is_older(KEYS_LIFE_S, self.monotonic_s()):
                raise Unavailable(
                    f"the keys of the issuer {self.issuer} cannot be had",
                    hint="the controller's log says why; tokens of the controller itself work",
                    code="oidc.keys",
                )
            found = self._keys.get(kid) if isinstance(kid, str | None) else None
        if found is None:
            raise _refused("the issuer has no key of that id")
        return found

    def _refresh(self, kid: object) -> None:
        """Ask the provider where that may help. One asks; who has a key goes on with it, and others wait a
        moment: a provider that hangs must not hold up every thread of the API."""
        with self._lock:
            now_s = self.monotonic_s()
            known = isinstance(kid, str | None) and kid in self._keys
            if known and not self._is_older(KEYS_FRESH_S, now_s):
                return
            asks = self._may_try(now_s)
            if asks:
                self._tried_s = now_s
                self._idle.clear()
        if asks:
            self._fetch(now_s)
        elif not known:
            self._idle.wait(OTHERS_WAIT_S)

    def _fetch(self, now_s: float) -> None:
        try:
            keys = fetch_keys(self.issuer)
            if keys is not None:
                with self._lock:
                    self._keys, self._fetched_s = keys, now_s
        finally:
            self._idle.set()

    def _may_try(self, now_s: float) -> bool:
        return self._tried_s is None or now_s - self._tried_s >= FETCH_AGAIN_S

    def _is_older(self, age_s: float, now_s: float) -> bool:
        return self._fetched_s is None or now_s - self._fetched_s > age_s


def _find(claims: Mapping[str, Any], path: str) -> object:
    """Return a claim; dots go into objects (``realm_access.roles``), unless a claim has that very name (as
    those that are URLs)."""
    if path in claims:
        return claims[path]
    found: object = claims
    for word in path.split("."):
        found = found.get(word) if isinstance(found, Mapping) else None
    return found


def _refused(why: str) -> Forbidden:
    return Forbidden(
        f"the token of the issuer does not count: {why}",
        hint="sign in again; clocks must agree, and issuer and audience be the controller's",
        code="api.unauthorized",
    )
