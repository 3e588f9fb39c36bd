"""The controller's certificate authorities: one, or two while the older is replaced by the newer.

Both are believed then. The newer issues what devices get; servers and the controller show what the older
issued until the change is finished, since devices that were away know no other.

What is written first: the new key, its certificate, then the list that names them. A process that ends
in between leaves files that nobody names; the next try takes them up.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_cloud.adapters.trust.certificates import (
    BACKDATED,
    Signer,
    make_authority,
    make_client,
    make_revocations,
    names_of,
)
from fleet_cloud.adapters.trust.csr import check_name, key_digest, load_csr
from fleet_cloud.adapters.trust.keys import KeyFolder
from fleet_cloud.errors import Conflict, SettingsError
from fleet_cloud.services.ports import IssuedCertificate
from fleet_shared.durable import remove, write_durably
from fleet_shared.names import DeviceId, Digest, digest_of

FIRST: Final = "ca"
NAME: Final = re.compile(r"ca(-[1-9][0-9]{0,5})?")


@dataclass(frozen=True, slots=True)
class Issuer:
    """One authority: ``name`` is that of its files."""

    name: str
    signer: Signer
    pem: str

    @property
    def fingerprint(self) -> Digest:
        """The sha256 of the certificate (DER), as devices report it."""
        return Digest(self.signer.certificate.fingerprint(SHA256()).hex())


class Authority:
    """Implements `CertificateAuthority` and `Authorities`; may be used from many threads.

    ``root_json`` is the release root that devices pin, handed out with the certificate.
    """

    def __init__(self, keys: KeyFolder, folder: Path, root_json: str) -> None:
        self._keys, self._folder = keys, folder
        self.root_json = root_json
        names = self._load_names()
        make = names == [FIRST] and not self._certificate_file(FIRST).exists()
        self._issuers = tuple(self._open(name, make=make) for name in names)

    @property
    def issuers(self) -> tuple[Issuer, ...]:
        """Those that are believed, newest first."""
        return self._issuers

    @property
    def ca_pem(self) -> str:
        return "".join(issuer.pem for issuer in self._issuers)

    @property
    def pems(self) -> tuple[str, ...]:
        return tuple(issuer.pem for issuer in self._issuers)

    @property
    def fingerprints(self) -> tuple[Digest, ...]:
        return tuple(issuer.fingerprint for issuer in self._issuers)

    @property
    def serving(self) -> Signer:
        """Who signs for servers and for the controller itself."""
        return self._issuers[-1].signer

    def find_bundle(self, ca_sha256: Digest) -> str | None:
        candidates = [self.ca_pem, *self.pems]
        return next((pem for pem in candidates if digest_of(pem.encode()) == ca_sha256), None)

    def sign_csr(
        self, csr_pem: str, device: DeviceId, *, bundle: str | None = None, at_ms: int | None = None
    ) -> str:
        """Return a certificate for ``device``; raise `Invalid` (``enrol.csr``) when the CSR is not
        signed by its own key or names another device."""
        csr = load_csr(csr_pem)
        check_name(csr, device)
        signer = next(i.signer for i in self._issuers if bundle is None or bundle.startswith(i.pem))
        identity = f"urn:fleet:device:{device}"
        certificate = make_client(signer, csr.public_key(), device, _time(at_ms), identity)
        return certificate.public_bytes(Encoding.PEM).decode()

    def public_key_digest(self, csr_pem: str) -> Digest:
        """Return the sha256 of the CSR's public key; raise `Invalid` (``enrol.csr``)."""
        return key_digest(load_csr(csr_pem).public_key())

    def describe(self, certificate_pem: str) -> IssuedCertificate:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        (device,) = names_of(certificate.subject)
        return IssuedCertificate(
            serial=f"{certificate.serial_number:x}",
            device=DeviceId(device),
            public_key_sha256=key_digest(certificate.public_key()),
            issued_ms=int((certificate.not_valid_before_utc + BACKDATED).timestamp() * 1000),
            expires_ms=int(certificate.not_valid_after_utc.timestamp() * 1000),
        )

    def make_revocations(self, revoked: Iterable[tuple[str, int]], at_ms: int) -> str:
        """Return one list (PEM) for each authority, of serial numbers and when each was revoked."""
        entries = [(int(serial, 16), _time(revoked_ms)) for serial, revoked_ms in revoked]
        lists = [make_revocations(issuer.signer, entries, _time(at_ms)) for issuer in self._issuers]
        return "".join(one.public_bytes(Encoding.PEM).decode() for one in lists)

    def begin_rotation(self) -> None:
        """Make a newer authority beside the one that there is; raise `Conflict`
        (``authority.rotation.running``)."""
        with self._keys.locked():
            if len(self._issuers) > 1:
                raise Conflict(
                    "the authority is being replaced already",
                    hint="fleet trust rotate ca shows how far it is; --finish ends it",
                    code="authority.rotation.running",
                )
            name = _following(self._issuers[0].name)
            newer = self._open(name, make=True)
            self._save((newer, *self._issuers))

    def finish_rotation(self) -> None:
        """Believe the newer authority alone; the key of the older is destroyed. Nothing happens when
        there is one authority only."""
        with self._keys.locked():
            newest, *older = self._issuers
            self._save((newest,))
            for issuer in older:
                remove(self._folder / "keys" / f"{issuer.name}.pem")

    def _save(self, issuers: tuple[Issuer, ...]) -> None:
        names = [issuer.name for issuer in issuers]
        write_durably(self._list_file, json.dumps(names).encode())
        self._issuers = issuers

    def _load_names(self) -> list[str]:
        try:
            return _parse_names(self._list_file.read_bytes())
        except FileNotFoundError:
            return [FIRST]
        except ValueError as exc:
            raise _lost(f"the list of authorities {self._list_file} cannot be read: {exc}") from exc

    def _open(self, name: str, *, make: bool) -> Issuer:
        file = self._certificate_file(name)
        key = self._keys.ca_key(name, make=make)
        if make and not file.exists():
            certificate = make_authority(key, datetime.now(timezone.utc))
            write_durably(file, certificate.public_bytes(Encoding.PEM))
        certificate = _load_certificate(file)
        if certificate.public_key() != key.public_key():
            raise _lost(f"the CA's key is not the one of {file}")
        return Issuer(name, Signer(key, certificate), file.read_text())

    def _certificate_file(self, name: str) -> Path:
        return self._folder / f"{name}-certificate.pem"

    @property
    def _list_file(self) -> Path:
        return self._folder / "authorities.json"


def _parse_names(raw: bytes) -> list[str]:
    """Return the names in a list; raise `ValueError` for what is no list of authorities."""
    names = json.loads(raw)
    if not isinstance(names, list) or not names or not all(NAME.fullmatch(str(name)) for name in names):
        raise ValueError(f"it has {names!r}")
    return names


def _following(name: str) -> str:
    """Return the name after ``ca`` or ``ca-2``: ``ca-2``, ``ca-3``."""
    number = name.partition("-")[2]
    return f"{FIRST}-{int(number or 1) + 1}"


def _time(at_ms: int | None) -> datetime:
    if at_ms is None:
        return datetime.now(timezone.utc)
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc)


def _load_certificate(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as exc:
        raise _lost(f"the CA's certificate {file} cannot be read: {exc}") from exc


def _lost(problem: str) -> SettingsError:
    hint = "restore it from a backup; devices trust no other"
    return SettingsError(problem, hint=hint, code="trust.keys")
