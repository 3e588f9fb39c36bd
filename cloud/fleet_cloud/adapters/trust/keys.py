"""The lab folder: all keys in one place, made at first use, readable by their owner only."""

import fcntl
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from fleet_cloud.errors import SettingsError
from fleet_shared.durable import write_durably

log = logging.getLogger(__name__)

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey


class LabKeys:
    """Private keys as unencrypted PKCS#8 files of mode 0600. For a lab: whoever reads this
    folder can release and assign anything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process: keys and metadata are made by one at a time."""
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def signer(self, name: str) -> CryptoSigner:
        """Return the Ed25519 signer ``name``, made if it is not there yet."""
        key = self._load(name) or self._make(name, Ed25519PrivateKey.generate())
        return CryptoSigner(key, SSlibKey.from_crypto(key.public_key()))

    def ca_key(self) -> EllipticCurvePrivateKey:
        """Return the CA's key: ECDSA P-256, which every TLS library in the field can verify."""
        key = self._load("ca") or self._make("ca", generate_private_key(SECP256R1()))
        if not isinstance(key, EllipticCurvePrivateKey):
            raise SettingsError(f"{self._folder / 'ca.pem'} is not a P-256 key", code="trust.keys")
        return key

    def secret(self, name: str) -> bytes:
        """Return 32 random bytes that stay the same, for symmetric signatures."""
        file = self._folder / f"{name}.secret"
        if not file.exists():
            write_durably(file, secrets.token_bytes(32), mode=0o600)
        return file.read_bytes()

    def _load(self, name: str) -> PrivateKey | None:
        file = self._folder / f"{name}.pem"
        if not file.exists():
            return None
        try:
            key = load_pem_private_key(file.read_bytes(), password=None)
        except (ValueError, TypeError) as exc:
            raise SettingsError(
                f"the key {file} cannot be read: {exc}",
                hint="restore it from a backup; devices trust no other",
                code="trust.keys",
            ) from exc
        if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
            raise SettingsError(f"the key {file} is of another kind", code="trust.keys")
        return key

    def _make(self, name: str, key: PrivateKey) -> PrivateKey:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_durably(self._folder / f"{name}.pem", pem, mode=0o600)
        log.info("made the key %s in %s: all keys in one folder is for a lab", name, self._folder)
        return key
