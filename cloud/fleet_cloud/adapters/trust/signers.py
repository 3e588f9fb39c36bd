"""Signers behind references: a file of this machine, or a PKCS#11 token.

A reference names a private key and holds its public half. Those that the controller may use by itself lie in
one file, ``signers.json``; what is not in it is signed by people, elsewhere.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import CryptoSigner, HSMSigner, Key, Signer, SSlibKey
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata

from fleet_cloud.errors import Invalid, SettingsError
from fleet_shared.durable import write_durably

FILE_SCHEME: Final = "file:"
HSM_SCHEME: Final = "hsm:"
_RESTORE: Final = "restore it from a backup; devices trust no other"

Secret = Callable[[str], str]
"""Asks for the passphrase of a file or the PIN of a token, by name."""


@dataclass(frozen=True, slots=True)
class KeyReference:
    """``uri``: ``file:PATH``, relative to the folder of the references, or ``hsm:ID?label=TOKEN``."""

    uri: str
    public: Key

    @property
    def keyid(self) -> str:
        return str(self.public.keyid)


class Signers:
    """The keys that may be used without asking anybody."""

    def __init__(self, folder: Path, secret: Secret | None = None) -> None:
        self._folder, self._secret = folder, secret
        self._file = folder / "signers.json"
        self._references = {one.keyid: one for one in _load_references(self._file)}
        self._signers: dict[str, Signer] = {}

    @property
    def keyids(self) -> frozenset[str]:
        return frozenset(self._references)

    def find(self, keyid: str) -> Signer | None:
        """Return the signer, none if the key is not at hand; raise `SettingsError` (``trust.keys``)."""
        if keyid not in self._references:
            return None
        if keyid not in self._signers:
            self._signers[keyid] = open_signer(self._references[keyid], self._folder, self._secret)
        return self._signers[keyid]

    def keep(self, references: Mapping[str, KeyReference] | list[KeyReference]) -> None:
        """Let exactly these be used from now on."""
        kept = list(references.values()) if isinstance(references, Mapping) else references
        document = {
            "schema": 1,
            "signers": [{"keyid": one.keyid, "public": one.public.to_dict(), "uri": one.uri} for one in kept],
        }
        write_durably(self._file, json.dumps(document, indent=1).encode(), mode=0o600)
        self._references = {one.keyid: one for one in kept}
        self._signers = {keyid: one for keyid, one in self._signers.items() if keyid in self._references}

    def add(self, reference: KeyReference) -> None:
        self.keep({**self._references, reference.keyid: reference})

    def forget_others(self, keyids: Collection[str]) -> None:
        """Refer to no other keys than these."""
        left = {keyid: one for keyid, one in self._references.items() if keyid in keyids}
        if len(left) < len(self._references):
            self.keep(left)

    def check(self) -> None:
        """Open every key: one that is missing or another's is said at the start, not at the next release."""
        for keyid in self._references:
            self.find(keyid)


def open_signer(reference: KeyReference, folder: Path, secret: Secret | None = None) -> Signer:
    """Raises `SettingsError` (``trust.keys``) for a key that is missing or not the one referred to."""
    if reference.uri.startswith(HSM_SCHEME):
        return _open_token(reference, secret)
    key = load_key(folder / reference.uri.removeprefix(FILE_SCHEME), secret)
    if SSlibKey.from_crypto(key.public_key(), keyid=reference.keyid) != reference.public:
        raise SettingsError(
            f"the key {reference.uri.removeprefix(FILE_SCHEME)} is not the one that devices know",
            hint=_RESTORE,
            code="trust.keys",
        )
    return CryptoSigner(key, SSlibKey.from_crypto(key.public_key(), keyid=reference.keyid))


def load_key(file: Path, secret: Secret | None = None) -> Ed25519PrivateKey | EllipticCurvePrivateKey:
    """Return the private key in a PKCS#8 file, asking for the passphrase of one that has one."""
    try:
        raw = file.read_bytes()
    except FileNotFoundError as exc:
        raise SettingsError(f"the key {file} is missing", hint=_RESTORE, code="trust.keys") from exc
    encrypted = b"ENCRYPTED" in raw.partition(b"\n")[0]
    if encrypted and secret is None:
        raise SettingsError(
            f"the key {file} has a passphrase, which nobody can be asked for here",
            hint="sign with it by `fleet trust sign FILE --key`",
            code="trust.keys.passphrase",
        )
    password = secret(f"passphrase of {file.name}").encode() if encrypted and secret is not None else None
    try:
        key = load_pem_private_key(raw, password)
    except (ValueError, TypeError) as exc:
        hint = "is it the right passphrase?" if encrypted else _RESTORE
        raise SettingsError(f"the key {file} cannot be read: {exc}", hint=hint, code="trust.keys") from exc
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise SettingsError(f"the key {file} is of another kind", hint=_RESTORE, code="trust.keys")
    return key


def refer_to(uri: str, folder: Path, secret: Secret) -> tuple[KeyReference, Signer]:
    """Return the reference and signer of a private key that is at hand; raise `CloudError`."""
    if not uri.startswith(HSM_SCHEME):
        key = load_key(folder / uri.removeprefix(FILE_SCHEME), secret)
        signer = CryptoSigner(key)
        return KeyReference(uri, signer.public_key), signer
    reference = KeyReference(uri, _import_public(uri, secret))
    return reference, _open_token(reference, secret)


def sign_with(signer: Signer, metadata: Metadata[Any]) -> None:
    """Add a signature; raise `SettingsError` (``trust.token``) when the token refuses."""
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as exc:
        raise _no_token(str(exc)) from exc


def _open_token(reference: KeyReference, secret: Secret | None) -> Signer:
    if secret is None:
        raise SettingsError(
            f"the token of {reference.uri} has a PIN, which nobody can be asked for here",
            hint="sign with it by `fleet trust sign FILE --key`",
            code="trust.keys.passphrase",
        )
    try:
        return HSMSigner.from_priv_key_uri(reference.uri, reference.public, secret)
    except (ValueError, UnsupportedLibraryError) as exc:
        raise _no_token(str(exc)) from exc


def _import_public(uri: str, secret: Secret) -> SSlibKey:
    path, _, query = uri.removeprefix(HSM_SCHEME).partition("?")
    label = query.removeprefix("label=") or None
    try:
        return HSMSigner.import_(int(path or 2), label, secret)[1]
    except (ValueError, UnsupportedLibraryError) as exc:
        raise _no_token(str(exc)) from exc
    except Exception as exc:  # python-pkcs11 has some fifty errors; each is one of the token
        raise _no_token(f"{type(exc).__name__} {exc}") from exc


def _no_token(why: str) -> SettingsError:
    return SettingsError(
        f"the PKCS#11 token cannot be used: {why}",
        hint="set PYKCS11LIB to the token's module, install fleet-cloud[pkcs11], and check label, id and PIN",
        code="trust.token",
    )


def _load_references(file: Path) -> list[KeyReference]:
    if not file.exists():
        return []
    try:
        found = json.loads(file.read_bytes())["signers"]
        return [KeyReference(str(one["uri"]), Key.from_dict(one["keyid"], one["public"])) for one in found]
    except (ValueError, KeyError, TypeError) as exc:
        raise SettingsError(f"{file} cannot be read: {exc}", hint=_RESTORE, code="trust.keys") from exc


def parse_public(text: str) -> Key:
    """Return the public key in a file that `fleet trust key` made; raise `Invalid` (``trust.key``)."""
    try:
        document = json.loads(text)
        key = Key.from_dict(document["keyid"], document["public"])
    except (ValueError, KeyError, TypeError) as exc:
        raise Invalid(
            f"this is no public key: {exc!r}",
            hint="give the .pub.json that `fleet trust key` wrote",
            code="trust.key",
        ) from exc
    if not isinstance(key, SSlibKey) or key.keytype not in ("ed25519", "ecdsa"):
        raise Invalid("the key is of a kind that devices cannot check", hint="use Ed25519", code="trust.key")
    if not is_called_by_its_value(key):
        raise Invalid(
            f"the id {key.keyid[:12]!r} is not the one of this key",
            hint="give the .pub.json as `fleet trust key` wrote it",
            code="trust.key",
        )
    return key


def is_called_by_its_value(key: Key) -> bool:
    """Tell whether the id of a key follows from the key. TUF takes any id; people see ids only, so that a key
    of theirs could be exchanged for another of the same id before their eyes."""
    if not isinstance(key, SSlibKey):
        return False
    try:
        own = SSlibKey.from_crypto(key._crypto_key(), scheme=key.scheme)  # noqa: SLF001
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return bool(own.keyid == key.keyid)


def write_public(key: Key) -> str:
    return json.dumps({"keyid": key.keyid, "public": key.to_dict()}, indent=1)
