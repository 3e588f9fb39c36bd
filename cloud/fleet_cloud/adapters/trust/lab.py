"""Trust of a first run: release keys, assignment key and CA in one folder of this machine.

Later forms keep the release keys elsewhere, behind the same ports.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope

from fleet_cloud.adapters.trust.ca import Authority
from fleet_cloud.adapters.trust.keys import LabKeys
from fleet_cloud.adapters.trust.repository import ROLES, ReleaseRepository
from fleet_cloud.errors import SettingsError
from fleet_shared.envelope import (
    ASSIGNMENT_KEY_TARGET,
    AUTHORITIES_TARGET,
    DESIRED_PAYLOAD_TYPE,
    AssignmentKey,
    Authorities,
    manifest_target,
)
from fleet_shared.messages.desired import Desired
from fleet_shared.names import Digest
from fleet_shared.wire import decode, encode

log = logging.getLogger(__name__)


class LabTrust:
    """Implements the ports `Trust` and, through `authority`, `CertificateAuthority`."""

    key_epoch = 1

    def __init__(self, folder: Path) -> None:
        self.keys = LabKeys(folder / "keys")
        with self.keys.locked():
            first = not (folder / "metadata" / "1.root.json").exists()
            self._assignment = self.keys.signer("assignment", make=first)
            signers = {role: self.keys.signer(role, make=first) for role in ROLES}
            self.repository = ReleaseRepository(folder, signers)
            self.authority = Authority(self.keys, folder, self.repository.root_json.decode())
            self._check_assignment_key()
            if first:
                log.info("made all keys in %s: one folder for all of them is for a lab", folder / "keys")
            self.repository.release({ASSIGNMENT_KEY_TARGET: encode(self._assignment_key())})

    def release(self, manifests: Mapping[Digest, bytes]) -> None:
        with self.keys.locked():
            self.repository.release({manifest_target(name): raw for name, raw in manifests.items()})

    def release_authorities(self, pems: Sequence[str]) -> None:
        with self.keys.locked():
            self.repository.release({AUTHORITIES_TARGET: encode(Authorities(pem=tuple(pems)))})

    def sign_desired(self, desired: Desired) -> bytes:
        envelope = Envelope(encode(desired), DESIRED_PAYLOAD_TYPE, {})
        envelope.sign(self._assignment)
        return json.dumps(envelope.to_dict()).encode()

    def refresh(self, now_ms: int) -> None:
        with self.keys.locked():
            self.repository.refresh(datetime.fromtimestamp(now_ms / 1000, timezone.utc))

    def _check_assignment_key(self) -> None:
        """Raise unless the key is the released one: another needs an epoch of its own."""
        released = self.repository.load_target(ASSIGNMENT_KEY_TARGET)
        if released is not None and decode(AssignmentKey, released).keyid != self._assignment_key().keyid:
            raise SettingsError(
                "the assignment key is not the one that was released",
                hint="restore it from a backup; devices trust no other",
                code="trust.keys",
            )

    def _assignment_key(self) -> AssignmentKey:
        public = self._assignment._private_key.public_key()  # noqa: SLF001 - no public accessor
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return AssignmentKey(
            key_epoch=self.key_epoch, keyid=self._assignment.public_key.keyid, public_pem=pem.decode()
        )
