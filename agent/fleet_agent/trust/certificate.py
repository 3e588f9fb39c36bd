"""The device's key and certificate as files."""

from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from fleet_agent.errors import EnrolmentError

KEY_FILE: Final = "key.pem"
CERTIFICATE_FILE: Final = "certificate.pem"
AGAIN: Final = "remove it, and enrol this device anew"


def load_certificate(identity: Path) -> x509.Certificate:
    """Raises `EnrolmentError` (``enrol.certificate``) for one that cannot be read."""
    file = identity / CERTIFICATE_FILE
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as exc:
        raise EnrolmentError(f"{file} cannot be read: {exc}", code="enrol.certificate") from exc


def load_key(identity: Path) -> EllipticCurvePrivateKey:
    """Raises `EnrolmentError` (``enrol.key``) for one that cannot be read."""
    file = identity / KEY_FILE
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError) as exc:
        message = f"the device key {file} cannot be read: {exc}"
        raise EnrolmentError(message, hint=AGAIN, code="enrol.key") from exc
    if not isinstance(key, EllipticCurvePrivateKey):
        raise EnrolmentError(f"the device key {file} is not a P-256 key", hint=AGAIN, code="enrol.key")
    return key


def public_bytes(key: EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def is_for(certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> bool:
    certified = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certified == public_bytes(key)


def names_of(certificate: x509.Certificate) -> list[str]:
    return [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def begins_ms(certificate: x509.Certificate) -> int:
    return _milliseconds(certificate.not_valid_before_utc)


def expires_ms(certificate: x509.Certificate) -> int:
    return _milliseconds(certificate.not_valid_after_utc)


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp() * 1000)
