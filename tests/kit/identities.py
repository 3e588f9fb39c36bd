"""Devices' keys and certificates, as their agents make and get them."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleet_cloud.adapters.trust.ca import Authority
from fleet_cloud.services.ports import TlsFiles
from fleet_shared.names import DeviceId


def make_key() -> EllipticCurvePrivateKey:
    return generate_private_key(SECP256R1())


def make_csr(device: str, key: CertificateIssuerPrivateKeyTypes | None = None) -> str:
    """Return a CSR for ``device``, with a key of its own unless one is given."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    key = key or make_key()
    algorithm = None if isinstance(key, Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def make_device(authority: Authority, device: DeviceId, folder: Path, at_ms: int | None = None) -> TlsFiles:
    """Return the files of a device that is enrolled with ``authority``, made in ``folder``."""
    key = make_key()
    folder.mkdir(parents=True)
    files = TlsFiles(folder / "ca.pem", folder / "certificate.pem", folder / "key.pem")
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files.certificate.write_text(authority.sign_csr(make_csr(device, key), device, at_ms=at_ms))
    files.authorities.write_text(authority.ca_pem)
    return files
