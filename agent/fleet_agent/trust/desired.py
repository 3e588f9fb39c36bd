"""Whether a desired document may be obeyed. Bytes in, verified bytes out; no I/O of its own."""

import json
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from fleet_agent.errors import TrustError
from fleet_shared.envelope import DESIRED_PAYLOAD_TYPE, AssignmentKey
from fleet_shared.errors import FleetError
from fleet_shared.limits import DESIRED_BYTES
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.desired import UNDERSTOOD, Desired, RunEntry
from fleet_shared.names import DeviceId, digest_of
from fleet_shared.wire import decode

DAY_MS: Final = 24 * 3600 * 1000
AHEAD_MAX_MS: Final = DAY_MS


def open_envelope(raw: bytes, key: AssignmentKey) -> bytes:
    """Return the payload that ``key`` signed; raise `TrustError` (``trust.envelope.*``,
    ``trust.desired.type``, ``trust.desired.signature``)."""
    if len(raw) > 2 * DESIRED_BYTES:
        raise TrustError("the envelope is too long", code="trust.envelope.malformed")
    try:
        envelope = Envelope.from_dict(json.loads(raw))
        public = SSlibKey.from_crypto(load_pem_public_key(key.public_pem.encode()), keyid=key.keyid)
    except Exception as exc:
        raise TrustError(f"the envelope does not parse: {exc}", code="trust.envelope.malformed") from exc
    if envelope.payload_type != DESIRED_PAYLOAD_TYPE:
        raise TrustError(
            f"the envelope holds {envelope.payload_type!r}, expected {DESIRED_PAYLOAD_TYPE!r}",
            code="trust.desired.type",
        )
    try:
        envelope.verify([public], 1)
    except VerificationError as exc:
        raise TrustError(
            "the desired state is not signed by the released assignment key",
            hint="somebody other than the controller wrote to this device's topic",
            code="trust.desired.signature",
        ) from exc
    return bytes(envelope.payload)


def check_desired(payload: bytes, device: DeviceId, key: AssignmentKey) -> Desired:
    """Return the document in verified bytes; raise `TrustError` when it is not for this device."""
    try:
        desired = decode(Desired, payload)
    except FleetError as exc:
        raise TrustError(f"the desired state does not parse: {exc}", code="trust.desired.malformed") from exc
    if desired.device != device:
        raise TrustError(
            f"the desired state is for {desired.device}, this is {device}", code="trust.desired.device"
        )
    if desired.key_epoch != key.key_epoch:
        raise TrustError(
            f"the desired state is of key epoch {desired.key_epoch}, released is {key.key_epoch}",
            code="trust.desired.epoch",
        )
    if unknown := sorted(set(desired.critical) - UNDERSTOOD):
        raise TrustError(
            f"the desired state needs {unknown}, which this agent does not understand",
            hint="update the agent",
            code="trust.desired.critical",
        )
    return desired


def check_issued(desired: Desired, wall_ms: int | None, now_ms: int) -> None:
    """Raise `TrustError` when the document is of a time that has not come. Obeyed, it would raise the
    floor for good, and everything that is signed today would be of the past.

    ``wall_ms`` is the wall clock, none while nothing keeps it; one before the floor (``now_ms``) is
    not believed.
    """
    if wall_ms is None or wall_ms < now_ms or desired.issued_ms <= wall_ms + AHEAD_MAX_MS:
        return
    raise TrustError(
        f"the desired state was issued {(desired.issued_ms - wall_ms) / DAY_MS:.1f} days ahead of this "
        "device's clock",
        hint="are the clocks of the controller and of the device right?",
        code="trust.desired.future",
    )


def check_manifest(entry: RunEntry, fetch: Callable[[], bytes]) -> bytes:
    """Return the verified manifest of ``entry``; raise `TrustError` when it is another's."""
    raw = fetch()
    if digest_of(raw) != entry.manifest:
        raise TrustError("the manifest has another digest", code="trust.manifest.digest")
    try:
        manifest = parse_manifest(raw)
    except FleetError as exc:
        raise TrustError(f"the manifest does not parse: {exc}", code="trust.manifest.malformed") from exc
    if (manifest.model, manifest.version) != (entry.model, entry.version):
        raise TrustError(
            f"the manifest is of {manifest.model}:{manifest.version}, "
            f"assigned was {entry.model}:{entry.version}",
            code="trust.manifest.mismatch",
        )
    return raw
