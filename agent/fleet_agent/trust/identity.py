"""The device's key, made here and never leaving; and what the controller gave for it."""

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from fleet_agent.errors import EnrolmentError
from fleet_agent.trust.protocol import (
    AcceptEnrolment,
    CertificateRead,
    EnrolmentAccepted,
    KeyMade,
    MakeKey,
    ReadCertificate,
)
from fleet_shared.durable import write_durably
from fleet_shared.names import digest_of

KEY_FILE = "key.pem"


def make_key(request: MakeKey) -> KeyMade:
    """Return a CSR for the device's key (ECDSA P-256), which is made if there is none."""
    folder = Path(request.identity_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / KEY_FILE
    if not file.exists():
        pem = generate_private_key(SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        write_durably(file, pem, mode=0o600)
    key = _load_key(file)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.device)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return KeyMade(
        csr_pem=csr.public_bytes(Encoding.PEM).decode(), public_key_sha256=digest_of(_public_bytes(key))
    )


def accept_enrolment(request: AcceptEnrolment) -> EnrolmentAccepted:
    """Check everything, then store it; raise `EnrolmentError` (``enrol.*``) before any write."""
    if digest_of(request.ca_pem.encode()) != request.ca_sha256:
        raise _impostor("certificate authority", code="enrol.ca.mismatch")
    if digest_of(request.root_json.encode()) != request.root_sha256:
        raise _impostor("release root", code="enrol.root.mismatch")
    certificate = _check_certificate(request)
    identity, trust = Path(request.identity_dir), Path(request.trust_dir)
    trust.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(trust / "root.json", request.root_json.encode())
    write_durably(identity / "ca.pem", request.ca_pem.encode())
    write_durably(identity / "certificate.pem", request.certificate_pem.encode())
    return EnrolmentAccepted(certificate_expires_ms=int(certificate.not_valid_after_utc.timestamp() * 1000))


def read_certificate(request: ReadCertificate) -> CertificateRead:
    """Raises `EnrolmentError` (``enrol.certificate``, ``enrol.key``) for one that is damaged or of another
    key."""
    file = Path(request.identity_dir) / "certificate.pem"
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (OSError, ValueError) as exc:
        raise EnrolmentError(f"{file} cannot be read: {exc}", code="enrol.certificate") from exc
    own = _public_bytes(_load_key(Path(request.identity_dir) / KEY_FILE))
    if certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != own:
        raise EnrolmentError(f"{file} is not for this device's key", code="enrol.certificate")
    return CertificateRead(
        device=", ".join(names),
        not_before_ms=int(certificate.not_valid_before_utc.timestamp() * 1000),
        not_after_ms=int(certificate.not_valid_after_utc.timestamp() * 1000),
    )


def _check_certificate(request: AcceptEnrolment) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(request.certificate_pem.encode())
        authority = x509.load_pem_x509_certificate(request.ca_pem.encode())
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as exc:
        raise EnrolmentError(
            f"the certificate is not of the controller's CA: {exc}", code="enrol.certificate.issuer"
        ) from exc
    names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    own = _public_bytes(_load_key(Path(request.identity_dir) / KEY_FILE))
    certified = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if names != [request.device] or certified != own:
        raise EnrolmentError(
            f"the certificate is for {names}, not for this device's key", code="enrol.certificate.subject"
        )
    return certificate


def _impostor(what: str, *, code: str) -> EnrolmentError:
    return EnrolmentError(
        f"the controller's {what} is not the one that the token names",
        hint="check the address; if the controller was set up anew, make a new token there",
        code=code,
    )


def _load_key(file: Path) -> EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError) as exc:
        raise EnrolmentError(
            f"the device key {file} cannot be read: {exc}",
            hint="remove it, and enrol this device anew",
            code="enrol.key",
        ) from exc
    if not isinstance(key, EllipticCurvePrivateKey):
        raise EnrolmentError(
            f"the device key {file} is not a P-256 key",
            hint="remove it, and enrol this device anew",
            code="enrol.key",
        )
    return key


def _public_bytes(key: EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
