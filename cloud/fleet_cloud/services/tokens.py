"""API tokens: made by an admin, shown once, kept as a hash, ended by time or by hand."""

import hashlib
import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from fleet_cloud.domain.people import Actor, ApiToken, Role
from fleet_cloud.errors import Forbidden, Invalid, NotFound, Unavailable
from fleet_cloud.services.audit import note
from fleet_cloud.services.ports import Clock, Ids, UnitOfWork
from fleet_shared.names import Digest

log = logging.getLogger(__name__)

PREFIX: Final = "fleet_"
"""So that a person, or a scanner of secrets, knows what has been found."""

USE_NOTED_MS: Final = 60_000
"""The time of use is written down so often, not at each request."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tokens:
    uow: UnitOfWork
    clock: Clock
    ids: Ids

    def create(self, name: str, role: Role, life_s: int | None, by: Actor) -> tuple[ApiToken, str]:
        """Return a token and its secret, which nobody can see again. A name may be used once more when
        the one that had it has ended."""
        secret = PREFIX + secrets.token_urlsafe(32)
        now_ms = self.clock.now_ms()
        token = ApiToken(
            id=self.ids.new_id()[:12],
            name=_parse_name(name),
            secret_sha256=hash_secret(secret),
            role=role,
            created_ms=now_ms,
            expires_ms=None if life_s is None else now_ms + life_s * 1000,
        )
        with self.uow.begin() as transaction:
            # First, as it lets others wait: of two of the same name at once, one sees the other.
            note(transaction, by, now_ms, "token.create", token.name, after=_shown(token))
            if any(one.name == name and not _has_ended(one, now_ms) for one in transaction.api_tokens.all()):
                raise Invalid(
                    f"there is a token {name!r} already",
                    hint=f"choose another name, or end that one: fleet token revoke {name}",
                    code="token.exists",
                )
            transaction.api_tokens.add(token)
        return token, secret

    def all(self) -> Sequence[ApiToken]:
        with self.uow.read() as transaction:
            return transaction.api_tokens.all()

    def revoke(self, token: str, by: Actor) -> ApiToken:
        """End a token, by its id or its name; one that was ended stays as it is."""
        with self.uow.begin() as transaction:
            now_ms = self.clock.now_ms()
            found = transaction.api_tokens.get(token) or _find(transaction.api_tokens.all(), token, now_ms)
            if found is None:
                raise NotFound(f"no token {token!r}", hint="fleet token list shows all", code="token.unknown")
            if found.revoked_ms is not None:
                return found
            ended = replace(found, revoked_ms=now_ms)
            transaction.api_tokens.put(ended)
            note(
                transaction, by, now_ms, "token.revoke", found.name, before=_shown(found), after=_shown(ended)
            )
        return ended

    def find(self, secret: str) -> ApiToken | None:
        """Return the token with this secret, none when there is none; raise `Forbidden` for one that has
        ended."""
        with self.uow.read() as transaction:
            found = transaction.api_tokens.find(hash_secret(secret))
        if found is None:
            return None
        now_ms = self.clock.now_ms()
        if _has_ended(found, now_ms):
            raise Forbidden(
                f"the token {found.name!r} has {'expired' if found.revoked_ms is None else 'been revoked'}",
                hint="ask an admin for another: fleet token create",
                code="api.token.ended",
            )
        if found.used_ms is None or now_ms - found.used_ms > USE_NOTED_MS:
            self._note_use(found, now_ms)
        return found

    def _note_use(self, token: ApiToken, now_ms: int) -> None:
        """A database that takes no change just now (full, busy) is no reason to refuse a good token."""
        try:
            with self.uow.begin() as transaction:
                current = transaction.api_tokens.get(token.id)
                if current is not None:
                    transaction.api_tokens.put(replace(current, used_ms=now_ms))
        except Unavailable as exc:
            log.warning("the use of the token %r is not noted: %s", token.name, exc.message)


def hash_secret(secret: str) -> Digest:
    """A plain hash is enough: the secret is 256 random bits, which nobody can try."""
    return Digest(hashlib.sha256(secret.encode()).hexdigest())


def _has_ended(token: ApiToken, now_ms: int) -> bool:
    return token.revoked_ms is not None or (token.expires_ms is not None and now_ms >= token.expires_ms)


def _find(tokens: Sequence[ApiToken], name: str, now_ms: int) -> ApiToken | None:
    """Return the one of that name that counts, else its newest: by when they were made alone, a clock that
    was set back would leave the one that counts alive."""
    named = [token for token in reversed(tokens) if token.name == name]
    return next((one for one in named if not _has_ended(one, now_ms)), next(iter(named), None))


def _parse_name(name: str) -> str:
    if _NAME.fullmatch(name):
        return name
    raise Invalid(
        f"{name!r} is no name for a token",
        hint="letters, digits, '.', '_', '@' and '-', at most 64; for example ann or ci-berlin",
        code="token.name",
    )


def _shown(token: ApiToken) -> dict[str, object]:
    """What the audit log may keep: no hash of the secret."""
    return {
        "id": token.id,
        "role": token.role.value,
        "expires_ms": token.expires_ms,
        "revoked_ms": token.revoked_ms,
    }
