"""The assignment key in force: the one that is released, with the epoch that it began."""

import json
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope
from securesystemslib.signer import Signer, SSlibKey

from fleet_cloud.adapters.trust.signers import Signers
from fleet_cloud.errors import SettingsError
from fleet_shared.envelope import DESIRED_PAYLOAD_TYPE, AssignmentKey
from fleet_shared.messages.desired import Desired
from fleet_shared.wire import decode, encode


@dataclass(frozen=True, slots=True)
class Assigner:
    epoch: int
    signer: Signer

    @property
    def keyid(self) -> str:
        return str(self.signer.public_key.keyid)

    def sign(self, desired: Desired) -> bytes:
        envelope = Envelope(encode(desired), DESIRED_PAYLOAD_TYPE, {})
        envelope.sign(self.signer)
        return json.dumps(envelope.to_dict()).encode()


def describe_key(epoch: int, key: SSlibKey) -> bytes:
    """Return the document that devices get of the public half."""
    pem = key._crypto_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # noqa: SLF001
    return encode(AssignmentKey(key_epoch=epoch, keyid=key.keyid, public_pem=pem.decode()))


def open_assigner(released: bytes, signers: Signers) -> Assigner:
    """Return what signs with the ``released`` key; raise `SettingsError` (``trust.keys``)."""
    key = decode(AssignmentKey, released)
    signer = signers.find(key.keyid)
    if signer is None:
        raise SettingsError(
            "the assignment key that was released is not at hand",
            hint="restore it from a backup; devices trust no other",
            code="trust.keys",
        )
    return Assigner(key.key_epoch, signer)
