"""Enrolment tokens: a secret, and the digests of what the agent may trust.

Written as ``fleet1.<base64url of JSON>`` so that it survives a shell, a QR code and an
environment variable. The agent refuses a controller whose CA or TUF root has another digest.
"""

import base64
import binascii
from typing import Final

import msgspec

from fleet_shared.errors import InvalidName, TokenError
from fleet_shared.limits import TOKEN_CHARS
from fleet_shared.names import Digest, parse_digest

_PREFIX: Final = "fleet1."


class EnrolmentToken(msgspec.Struct, frozen=True, kw_only=True):
    """``secret`` proves the right to enrol; the digests pin the controller (sha256 of the PEM or
    JSON bytes as served)."""

    secret: str
    ca_sha256: Digest
    root_sha256: Digest

    def __str__(self) -> str:
        raw = msgspec.json.encode(self)
        return _PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> "EnrolmentToken":
        """Return the token written as ``text``, or raise `TokenError` (which never repeats it)."""
        body = text.strip().removeprefix(_PREFIX)
        if not text.strip().startswith(_PREFIX) or len(text) > TOKEN_CHARS:
            raise _damaged()
        try:
            raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            token = msgspec.json.decode(raw, type=cls)
            parse_digest(token.ca_sha256)
            parse_digest(token.root_sha256)
        except (binascii.Error, ValueError, msgspec.MsgspecError, InvalidName) as exc:
            raise _damaged() from exc
        return token


def _damaged() -> TokenError:
    return TokenError(
        "the enrolment token is not valid",
        hint=f"it starts with {_PREFIX!r}; copy it whole, or make a new one: fleet device token",
    )
