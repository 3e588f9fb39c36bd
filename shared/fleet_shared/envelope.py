"""Signed documents: what is signed, under which type, by which key.

The bytes on the wire are a DSSE envelope (Dead Simple Signing Envelope 1.0: payload type,
base64 payload, signatures over the pre-authentication encoding). Making and verifying one is
the work of the trust adapters, which own the cryptography; this module names the documents.
"""

from typing import Final

from fleet_shared.names import Digest
from fleet_shared.wire import Document

DESIRED_PAYLOAD_TYPE: Final = "application/vnd.fleet.desired.v1+json"

ASSIGNMENT_KEY_TARGET: Final = "keys/assignment.json"
"""TUF target that holds the public half of the assignment key."""

AUTHORITIES_TARGET: Final = "keys/authorities.json"
"""TUF target that holds the certificates of the authorities by which devices know their controller."""

TIMESTAMP_ISSUED_MS: Final = "issued_ms"
"""A field of timestamp.json beside those of TUF, which gives its end only: when it was signed. It raises the
floor of devices that do not know the time."""


class AssignmentKey(Document, frozen=True, kw_only=True):
    """The public assignment key of one epoch: an Ed25519 key as PEM (SubjectPublicKeyInfo)."""

    key_epoch: int
    keyid: str
    public_pem: str


class Authorities(Document, frozen=True, kw_only=True):
    """The certificate authorities of a controller, PEM, newest first. More than one while they are rotated:
    whoever knows the older one only learns of the newer one here, signed by the release keys."""

    pem: tuple[str, ...]


def manifest_target(manifest: Digest) -> str:
    """Return the TUF target path under which the manifest with this digest is released."""
    return f"manifests/{manifest}.json"
