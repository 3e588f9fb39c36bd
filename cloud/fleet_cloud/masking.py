"""URLs without their secrets: the one place that everything shown, logged or raised goes through.

Written for what people type, not for what a URL should be: a password may hold ``/ # ? [ @`` as
it is, where a URL parser would end the authority, or refuse. In doubt more is masked, never less.
"""

import re
from typing import Final
from urllib.parse import unquote_plus

MASK: Final = "********"

_SECRET_NAME: Final = re.compile(r"password|passwd|secret|key|token", re.IGNORECASE)
_SECRET: Final = re.compile(
    rf"((?:^|[?&;#\s])[^=&;?#\s]*(?:{_SECRET_NAME.pattern})[^=&;?#\s]*=)[^&]*", re.IGNORECASE
)
_PARAMETER: Final = re.compile(r"(^|[?&;#\s])([^=&;?\s]*)=([^&]*)")

_NO_PORT: Final = re.compile(r"^([^/?#\[:]*):(?!\d*(?:[/?#]|$))[^/?#]*")
"""``user:password`` where the host was forgotten: what stands after the colon is no port."""


def mask_url(url: str) -> str:
    """Return ``url`` without passwords: not before the host, not as a query value named password,
    secret, key or token, not in a URL that is itself a query value."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    if separator and "@" not in rest:
        rest = _NO_PORT.sub(rf"\1:{MASK}", rest)
    shown = _SECRET.sub(rf"\1{MASK}", f"{scheme}{separator}{_mask_user(rest)}")
    return _PARAMETER.sub(_mask_encoded, shown)


def _mask_user(rest: str) -> str:
    """Mask what stands before the last ``@``, but for the user's name."""
    before, at, after = rest.rpartition("@")
    if not at:
        return rest
    user, colon, secret = before.partition(":")
    if not colon:
        return rest
    if secret.startswith("//") and re.search(r"[?&]\w+=\w+$", user):  # a URL as a query value
        return f"{user}://{MASK}@{after}"
    return f"{user}:{MASK}@{after}"


def _mask_encoded(match: re.Match[str]) -> str:
    """Mask what is a secret only once it is percent-decoded: the name, or a user in a URL."""
    start, name, value = match.groups()
    plain = unquote_plus(value)
    if _SECRET_NAME.search(unquote_plus(name)) or (plain != value and "@" in plain):
        value = MASK
    return f"{start}{name}={value}"
