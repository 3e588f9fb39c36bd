"""The folder of the keys that the controller uses by itself, readable by their owner only.

A key is made only while nothing was published that names it: devices would refuse all that a
second one signs, and nobody would know why.
"""

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


class KeyFolder:
    """Private keys as unencrypted PKCS#8 files of mode 0600. Where root and targets keys lie here too, as
    after a first run, it is for a lab: whoever reads this folder can release and assign anything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process: keys and metadata are made by one at a time."""
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def signer(self, name: str, *, make: bool) -> CryptoSigner:
        """Return the Ed25519 signer ``name``. If it is not there, ``make`` it, or raise
        `SettingsError` (``trust.keys``)."""
        key = self._load(name) or self._make(name, Ed25519PrivateKey.generate(), make=make)
        return CryptoSigner(key, SSlibKey.from_crypto(key.public_key()))

    def free_name(self, name: str) -> str:
        """Return a name that no key has yet: ``name-2``, or a higher number."""
        number = 2
        while (self._folder / f"{name}-{number}.pem").exists():
            number += 1
        return f"{name}-{number}"

    def ca_key(self, name: str = "ca", *, make: bool) -> EllipticCurvePrivateKey:
        """Return a CA's key: ECDSA P-256, which every TLS library in the field can verify."""
        key = self._load(name) or self._make(name, generate_private_key(SECP256R1()), make=make)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise SettingsError(
                f"{self._folder / f'{name}.pem'} is not a P-256 key",
                hint="restore it from a backup; devices trust no other",
                code="trust.keys",
            )
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
            raise SettingsError(
                f"the key {file} is of another kind",
                hint="restore it from a backup; devices trust no other",
                code="trust.keys",
            )
        return key

    def _make(self, name: str, key: PrivateKey, *, make: bool) -> PrivateKey:
        file = self._folder / f"{name}.pem"
        if not make:
            raise SettingsError(
                f"the key {file} is missing",
                hint="restore it from a backup; devices trust no other",
                code="trust.keys",
            )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_durably(file, pem, mode=0o600)
        log.debug("made the key %s in %s", name, self._folder)
        return key
