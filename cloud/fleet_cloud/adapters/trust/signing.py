"""Signing what was carried here: what it is about in words, then signatures.

Whoever signs need not believe the controller that made the file: what is published counts as known only if
the very keys that sign now have signed it before; all else is listed as new.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signer, SSlibKey
from tuf.api.metadata import Metadata, Root

from fleet_cloud.adapters.trust.bundle import Bundle, find_signers, read_metadata, read_staged
from fleet_cloud.adapters.trust.layout import load_signed_root
from fleet_cloud.adapters.trust.signers import Secret, refer_to, sign_with
from fleet_cloud.errors import Invalid
from fleet_shared.envelope import ASSIGNMENT_KEY_TARGET, AUTHORITIES_TARGET, AssignmentKey, Authorities
from fleet_shared.errors import FleetError
from fleet_shared.manifest import parse_manifest
from fleet_shared.wire import decode, encode


class Signing:
    """``keys``: references of the private keys that are to sign."""

    def __init__(self, raw: bytes, keys: Sequence[str], secret: Secret) -> None:
        self._bundle = decode(Bundle, raw)
        self._staged = read_staged(self._bundle)
        self._signers = [refer_to(uri, Path(), secret)[1] for uri in keys]
        root = load_signed_root(read_metadata(self._bundle.root))
        self._wanted = find_signers(root, self._staged)
        for signer in self._signers:
            if not any(signer.public_key.keyid in keyids for keyids in self._wanted.values()):
                raise Invalid(
                    f"the key {signer.public_key.keyid[:12]} signs nothing of what is in the file",
                    hint="fleet trust status names the keys that must sign",
                    code="trust.sign.key",
                )

    def describe(self) -> list[str]:
        """Return what is to be signed, a line each, which nothing in the file can hide or break."""
        lines: list[str] = []
        again = 0
        for role, metadata in sorted(self._staged.items()):
            known = self._known(role)
            news = _describe_root(metadata, known) if role == Root.type else self._describe(metadata, known)
            lines += news
            again += not news
        if again:
            lines.append(f"{again} lists signed again with nothing new in them")
        return [line if line.isprintable() else ascii(line) for line in lines]

    @property
    def ends(self) -> datetime:
        """When the last of what is signed ends."""
        ends: list[datetime] = [metadata.signed.expires for metadata in self._staged.values()]
        return max(ends)

    def sign(self) -> tuple[bytes, int]:
        """Return the file with signatures added, and how many these were."""
        count = 0
        for role, metadata in self._staged.items():
            for signer in self._signers:
                if signer.public_key.keyid in self._wanted[role] - metadata.signatures.keys():
                    sign_with(signer, metadata)
                    count += 1
        bundle = self._bundle
        staged = {role: metadata.to_bytes().decode() for role, metadata in self._staged.items()}
        signed = Bundle(root=bundle.root, staged=staged, published=bundle.published, targets=bundle.targets)
        return encode(signed), count

    def _known(self, role: str) -> Metadata[Any] | None:
        """Return what is published, if one of the keys at hand has signed it."""
        if role not in self._bundle.published:
            return None
        metadata = read_metadata(self._bundle.published[role])
        return metadata if any(_has_signed(signer, metadata) for signer in self._signers) else None

    def _describe(self, metadata: Metadata[Any], known: Metadata[Any] | None) -> list[str]:
        before = {} if known is None else known.signed.targets
        after = metadata.signed.targets
        lines = [f"+ {self._name(path)}" for path, file in after.items() if before.get(path) != file]
        lines += _describe_delegation(metadata, known)
        return [*lines, *(f"- {path} is released no longer" for path in before.keys() - after.keys())]

    def _name(self, path: str) -> str:
        content = self._bundle.targets.get(path, "").encode()
        try:
            if path == ASSIGNMENT_KEY_TARGET:
                return _describe_assignment(decode(AssignmentKey, content))
            if path == AUTHORITIES_TARGET:
                pems = decode(Authorities, content).pem
                names = ", ".join(map(_fingerprint, pems))
                return f"{len(pems)} certificate authorities of the controller: {names}"
            manifest = parse_manifest(content)
        except FleetError:
            return path
        return f"{manifest.model}:{manifest.version} ({manifest.variant}) {path}"


def _describe_assignment(key: AssignmentKey) -> str:
    """By the id that the key itself has: `fleet trust status` shows it too."""
    try:
        public = SSlibKey.from_crypto(load_pem_public_key(key.public_pem.encode()))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return f"assignment key of epoch {key.key_epoch}, which cannot be read"
    return f"assignment key of epoch {key.key_epoch}: {public.keyid[:12]}"


def _fingerprint(pem: str) -> str:
    """As `fleet trust rotate ca --status` shows it."""
    try:
        return load_pem_x509_certificate(pem.encode()).fingerprint(SHA256()).hex()[:16]
    except ValueError:
        return "one that cannot be read"


def _describe_delegation(metadata: Metadata[Any], known: Metadata[Any] | None) -> list[str]:
    """Whoever may sign the lists of manifests may release: other keys are news as another target is."""
    after = metadata.signed.delegations
    before = None if known is None else known.signed.delegations
    if after == before:
        return []
    if after is None or after.succinct_roles is None:
        return ["manifests are listed no longer"]
    bins = after.succinct_roles
    keyids = " ".join(keyid[:12] for keyid in bins.keyids)
    return [f"manifests are signed by {bins.threshold} of {len(bins.keyids)}: {keyids}"]


def _has_signed(signer: Signer, metadata: Metadata[Any]) -> bool:
    signature = metadata.signatures.get(signer.public_key.keyid)
    try:
        if signature is not None:
            signer.public_key.verify_signature(signature, metadata.signed_bytes)
    except UnverifiedSignatureError:
        return False
    return signature is not None


def _describe_root(metadata: Metadata[Any], known: Metadata[Any] | None) -> list[str]:
    root = load_signed_root(metadata)
    before = None if known is None else load_signed_root(known)
    lines = []
    for role, keys in root.roles.items():
        old = None if before is None else before.roles[role]
        if old is not None and (set(old.keyids), old.threshold) == (set(keys.keyids), keys.threshold):
            continue
        gone = [] if old is None else [keyid for keyid in old.keyids if keyid not in keys.keyids]
        came = [keyid for keyid in keys.keyids if old is None or keyid not in old.keyids]
        words = [f"+{keyid[:12]}" for keyid in came] + [f"-{keyid[:12]}" for keyid in gone]
        signed_by = f"{keys.threshold} of {len(keys.keyids)}"
        lines.append(f"root {root.version}: {role} is signed by {signed_by}: {' '.join(words)}")
    return lines
