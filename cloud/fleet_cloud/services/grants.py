"""Enrolment tokens: what each allows, to whom, and until when. Only hashes of their secrets are kept."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from fleet_cloud.errors import Forbidden, Invalid
from fleet_cloud.services.ports import EnrolmentGrant, EnrolmentUse
from fleet_shared.limits import LABELS_PER_DEVICE
from fleet_shared.names import DeviceId, Digest, parse_device_id, parse_label

REPEATED_FOR_MS: Final = 86_400_000
"""So long a device may ask again for what a token gave it. Later it is an enrolment, which people decide."""


def make_grant(
    labels: Mapping[str, str], now_ms: int, life_s: int, uses: int, device: str | None
) -> tuple[str, EnrolmentGrant]:
    """Return a secret and what is kept of it."""
    secret = secrets.token_urlsafe(32)
    if device is not None and (labels or uses != 1):
        raise Invalid(
            "a token for one device is for one use, and changes no labels",
            hint="labels of a device: fleet device label DEVICE KEY=VALUE",
            code="enrol.token.device",
        )
    return secret, EnrolmentGrant(
        secret_sha256=hash_secret(secret),
        created_ms=now_ms,
        expires_ms=now_ms + life_s * 1000,
        labels=parse_labels(labels),
        uses_max=uses,
        device=None if device is None else parse_device_id(device),
    )


def check_grant(
    grant: EnrolmentGrant, uses: Sequence[EnrolmentUse], device: DeviceId, key: Digest, now_ms: int
) -> bool:
    """Tell whether this device uses the token for the first time; raise `Forbidden` (``enrol.token.*``)
    when it may not. Pure."""
    if grant.revoked_ms is not None:
        raise _refused("the enrolment token is revoked", code="enrol.token.revoked")
    mine = [use for use in uses if use.public_key_sha256 == key]
    if mine and mine[0].device == device and now_ms <= mine[0].used_ms + REPEATED_FOR_MS:
        return False
    if mine or len(uses) >= grant.uses_max:
        by = ", ".join(sorted({use.device for use in uses})[:3])
        raise _refused(f"the enrolment token was used, by {by}", code="enrol.token.used")
    if now_ms > grant.expires_ms:
        raise _refused("the enrolment token has expired", code="enrol.token.expired")
    if grant.device not in (None, device):
        raise _refused(f"the enrolment token is for {grant.device} only", code="enrol.token.other")
    return True


def parse_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels as a device may have them; raise `InvalidName`, `Invalid` (``label.too_many``)."""
    if len(labels) > LABELS_PER_DEVICE:
        raise Invalid(
            f"a device has at most {LABELS_PER_DEVICE} labels, not {len(labels)}",
            hint="remove some first: fleet device label DEVICE KEY-",
            code="label.too_many",
        )
    return dict(parse_label(key, value) for key, value in labels.items())


def hash_secret(secret: str) -> Digest:
    return Digest(hashlib.sha256(secret.encode()).hexdigest())


def unknown_token() -> Forbidden:
    return _refused("the enrolment token is not known here", code="enrol.token.unknown")


def _refused(problem: str, *, code: str) -> Forbidden:
    return Forbidden(problem, hint="make one on this controller: fleet device token", code=code)
