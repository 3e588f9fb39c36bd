"""Who a client is: what its certificate says, and nothing that the client says itself."""

import ssl
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from fleet_shared.names import Digest, digest_of


@dataclass(frozen=True, slots=True)
class Identity:
    """``key``: sha256 of the public key (DER SubjectPublicKeyInfo). ``ends_s``: when the certificate does,
    in seconds since 1970."""

    name: str
    key: Digest
    ends_s: float


def read_identity(connection: ssl.SSLObject | None) -> Identity | None:
    """Return who is at the other end of a TLS connection whose certificate was verified in its handshake;
    none without a certificate, for one that does not name exactly one, and for a resumed connection,
    which proved nothing today."""
    certificate = connection.getpeercert(binary_form=True) if connection is not None else None
    if connection is None or not certificate or connection.session_reused:
        return None
    return parse_identity(certificate)


def parse_identity(certificate_der: bytes) -> Identity | None:
    certificate = x509.load_der_x509_certificate(certificate_der)
    names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1 or not isinstance(names[0], str):
        return None
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Identity(names[0], digest_of(key), certificate.not_valid_after_utc.timestamp())
