"""The authorities by which this device knows its controller and its broker: those of enrolment, until the
release keys sign others. So whoever holds the controller cannot swap them, and a device that missed a
rotation learns of it from the releases alone."""

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256

from fleet_agent.errors import TrustError
from fleet_shared.durable import write_durably
from fleet_shared.envelope import Authorities
from fleet_shared.errors import MessageError
from fleet_shared.names import Digest
from fleet_shared.wire import decode

CA_FILE: Final = "ca.pem"
AUTHORITIES_MAX: Final = 8
AUTHORITIES_BYTES_MAX: Final = 64 * 1024


def load_authorities(identity: Path) -> list[x509.Certificate]:
    """Return them newest first. Raises `OSError`, `ValueError`."""
    return x509.load_pem_x509_certificates((identity / CA_FILE).read_bytes())


def store_authorities(identity: Path, released: bytes) -> None:
    """Believe those in verified bytes from now on. Raises `TrustError` (``trust.authorities``), with the old
    ones kept."""
    pem = check_authorities(released).encode()
    file = identity / CA_FILE
    if not file.exists() or file.read_bytes() != pem:
        write_durably(file, pem)


def check_authorities(released: bytes) -> str:
    """Return the certificates as one text."""
    try:
        given = decode(Authorities, released).pem
        _check_all(given)
    except (MessageError, ValueError, x509.ExtensionNotFound) as exc:
        raise TrustError(
            f"the released authorities cannot be used: {exc}",
            hint="this device goes on with those it had; release others",
            code="trust.authorities",
        ) from exc
    return "".join(pem.strip() + "\n" for pem in given)


def _check_all(given: tuple[str, ...]) -> None:
    """Raises `ValueError`, `x509.ExtensionNotFound`."""
    if not 1 <= len(given) <= AUTHORITIES_MAX:
        raise ValueError(f"there are {len(given)} of them")
    for pem in given:
        (certificate,) = x509.load_pem_x509_certificates(pem.encode())
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise ValueError("one is not an authority")


def find_issuer(
    certificate: x509.Certificate, authorities: list[x509.Certificate]
) -> x509.Certificate | None:
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return authority
    return None


def digest(certificate: x509.Certificate) -> Digest:
    """Return the sha256 of the certificate itself (DER)."""
    return Digest(certificate.fingerprint(SHA256()).hex())
