"""Whether a desired document may be obeyed. Bytes in, verified bytes out; no I/O of its own."""

import json
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from fleet_agent.errors import TrustError
from fleet_agent.floor import DeviceTime
from fleet_agent.orders import ORDER_MAX
from fleet_shared.envelope import DESIRED_PAYLOAD_TYPE, AssignmentKey
from fleet_shared.errors import FleetError
from fleet_shared.limits import DESIRED_BYTES
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.desired import UNDERSTOOD, Desired, RunEntry
from fleet_shared.messages.reported import Order
from fleet_shared.names import DeviceId, digest_of
from fleet_shared.wire import decode

DAY_MS: Final = 24 * 3600 * 1000
AHEAD_MAX_MS: Final = DAY_MS
ENTRIES_MAX: Final = 1


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
    if not all(
        0 <= number <= ORDER_MAX for number in (desired.key_epoch, desired.generation, desired.serial)
    ):
        raise TrustError(
            f"the desired state has an order that cannot be: {_name(desired.order)}",
            hint="whoever signs such has the assignment key: rotate it",
            code="trust.desired.order",
        )
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
    if len(desired.run) > ENTRIES_MAX:
        raise TrustError(
            f"the desired state names {len(desired.run)} models, and a device runs {ENTRIES_MAX}",
            hint="update the agent, if the controller is newer",
            code="trust.desired.entries",
        )
    return desired


def is_ahead(issued_ms: int, time: DeviceTime, fresh_until_ms: int) -> bool:
    """Tell whether an issue time lies in a time that has not come: a day ahead of a believed wall clock, or
    after the end of metadata that is fresh (``fresh_until_ms``), for devices that have none. Obeyed, it would
    raise the floor for good, and everything that is signed today would be of the past."""
    if time.wall_ms is not None and issued_ms > time.wall_ms + AHEAD_MAX_MS:
        return True
    return issued_ms > fresh_until_ms


def past(issued_ms: int, time: DeviceTime) -> int:
    """Return what of an issue time is known to be past: a floor above a believed wall clock would take the
    belief from it, and with a day at a time a thief's documents would take this device into the future."""
    return issued_ms if time.wall_ms is None else min(issued_ms, time.wall_ms)


def check_issued(desired: Desired, time: DeviceTime, fresh_until_ms: int) -> None:
    """Raise `TrustError` when the document is of a time that has not come."""
    if not is_ahead(desired.issued_ms, time, fresh_until_ms):
        return
    ahead = "ahead of what is released" if time.wall_ms is None else (
        f"{(desired.issued_ms - time.wall_ms) / DAY_MS:.1f} days ahead of this device's clock"
    )  # fmt: skip
    raise TrustError(
        f"the desired state was issued {ahead}",
        hint="are the clocks of the controller and of the device right?",
        code="trust.desired.future",
    )


def check_order(desired: Desired, seen: Order) -> None:
    """Raise `TrustError` when a newer one was verified before: it was replayed."""
    if desired.order < seen:
        raise TrustError(
            f"the desired state is older ({_name(desired.order)}) than one that this device knows "
            f"({_name(seen)})",
            hint="somebody sends old messages again, or the controller was restored from a backup and has "
            "not heard of this device yet",
            code="trust.desired.replayed",
        )


def _name(order: Order) -> str:
    return f"epoch {order.key_epoch}, generation {order.generation}, serial {order.serial}"


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
