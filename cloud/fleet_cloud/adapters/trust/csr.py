"""Requests for certificates: what a CSR must be before anything is signed for it."""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet_cloud.adapters.trust.certificates import names_of
from fleet_cloud.errors import Invalid
from fleet_shared.names import DeviceId, Digest, digest_of

RSA_BITS: Final = range(2048, 8193)
"""What a token of hardware may have; a modulus of any length would cost any time."""
CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})


def load_csr(csr_pem: str) -> x509.CertificateSigningRequest:
    """Return a CSR; raise `Invalid` (``enrol.csr``) unless it is signed by its own key, of a good kind."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        key = csr.public_key()
        _check_kind(key)
        if csr.is_signature_valid:
            return csr
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise _refused(f"the CSR does not parse: {exc}") from exc
    raise _refused("the CSR is not signed by its own key")


def check_name(csr: x509.CertificateSigningRequest, device: DeviceId) -> None:
    """Raise `Invalid` (``enrol.csr``) for a CSR that names another device, or more than one."""
    names = names_of(csr.subject)
    if names != [device]:
        raise _refused(f"the CSR names {names}, expected {device!r}")


def key_digest(key: CertificatePublicKeyTypes) -> Digest:
    """Return the sha256 of a public key (DER SubjectPublicKeyInfo)."""
    return digest_of(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _check_kind(key: CertificatePublicKeyTypes) -> None:
    match key:
        case EllipticCurvePublicKey() if key.curve.name in CURVES:
            return
        case RSAPublicKey() if key.key_size in RSA_BITS:
            return
        case Ed25519PublicKey():
            return
    raise _refused("the key of the CSR is of a kind that no certificate is given for")


def _refused(problem: str) -> Invalid:
    return Invalid(problem, hint="make it anew: fleet-agent enrol", code="enrol.csr")
