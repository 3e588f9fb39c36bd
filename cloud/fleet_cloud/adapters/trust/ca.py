"""The controller's certificate authority for device identities."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_cloud.adapters.trust.keys import LabKeys
from fleet_cloud.errors import Invalid, SettingsError
from fleet_shared.durable import write_durably
from fleet_shared.names import DeviceId, Digest, digest_of

CA_LIFE: Final = timedelta(days=3650)
DEVICE_LIFE: Final = timedelta(days=365)
BACKDATED: Final = timedelta(days=1)
"""Devices' clocks are a little off."""


class Authority:
    """Signs device certificates: CN is the device id, for TLS client authentication.

    ``root_json`` is the release root that devices pin, handed out with the certificate.
    """

    def __init__(self, keys: LabKeys, folder: Path, root_json: str) -> None:
        file = folder / "ca-certificate.pem"
        self._key = keys.ca_key(make=not file.exists())
        self.root_json = root_json
        if not file.exists():
            write_durably(file, self._make_certificate().public_bytes(Encoding.PEM))
        self._certificate = _load_certificate(file)
        self.ca_pem = file.read_text()
        if self._certificate.public_key() != self._key.public_key():
            raise SettingsError(
                f"the CA's key is not the one of {file}",
                hint="restore both from a backup; devices trust no other",
                code="trust.keys",
            )

    def sign_csr(self, csr_pem: str, device: DeviceId) -> str:
        """Return a certificate for ``device``; raise `Invalid` (``enrol.csr``) when the CSR is not
        signed by its own key or names another device."""
        csr = _load_csr(csr_pem)
        names = [name.value for name in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if names != [device]:
            raise Invalid(
                f"the CSR names {names}, expected {device!r}",
                hint="make it anew: fleet-agent enrol",
                code="enrol.csr",
            )
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(device))
            .issuer_name(self._certificate.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + DEVICE_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM).decode()

    def public_key_digest(self, csr_pem: str) -> Digest:
        """Return the sha256 of the CSR's public key; raise `Invalid` (``enrol.csr``)."""
        key = _load_csr(csr_pem).public_key()
        return digest_of(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def _make_certificate(self) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        name = _name("Fleet device CA")
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _load_certificate(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except ValueError as exc:
        raise SettingsError(
            f"the CA's certificate {file} cannot be read: {exc}",
            hint="restore it from a backup; devices trust no other",
            code="trust.keys",
        ) from exc


def _load_csr(csr_pem: str) -> x509.CertificateSigningRequest:
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        csr.public_key()
        if csr.is_signature_valid:
            return csr
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise Invalid(
            f"the CSR does not parse: {exc}", hint="make it anew: fleet-agent enrol", code="enrol.csr"
        ) from exc
    raise Invalid(
        "the CSR is not signed by its own key", hint="make it anew: fleet-agent enrol", code="enrol.csr"
    )
