"""The device's key, made here and never leaving; and what the controller gave for it."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleet_agent.errors import EnrolmentError
from fleet_agent.floor import judge_now_ms
from fleet_agent.trust.authorities import CA_FILE, find_issuer, load_authorities
from fleet_agent.trust.certificate import (
    CERTIFICATE_FILE,
    KEY_FILE,
    begins_ms,
    expires_ms,
    is_for,
    load_certificate,
    load_key,
    names_of,
    public_bytes,
)
from fleet_agent.trust.protocol import (
    AcceptEnrolment,
    CertificateRead,
    CertificateStored,
    EnrolmentAccepted,
    KeyMade,
    MakeKey,
    ReadCertificate,
    StoreCertificate,
)
from fleet_agent.trust.report import note_identity
from fleet_shared.durable import remove, write_durably
from fleet_shared.names import DeviceId, digest_of


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
    key = load_key(folder)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.device)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return KeyMade(
        csr_pem=csr.public_bytes(Encoding.PEM).decode(), public_key_sha256=digest_of(public_bytes(key))
    )


def accept_enrolment(request: AcceptEnrolment) -> EnrolmentAccepted:
    """Check everything, then store it; raise `EnrolmentError` (``enrol.*``) before any write."""
    if digest_of(request.ca_pem.encode()) != request.ca_sha256:
        raise _impostor("certificate authority", code="enrol.ca.mismatch")
    if digest_of(request.root_json.encode()) != request.root_sha256:
        raise _impostor("release root", code="enrol.root.mismatch")
    identity, trust = Path(request.identity_dir), Path(request.trust_dir)
    certificate = _parse(request.certificate_pem)
    try:
        authorities = x509.load_pem_x509_certificates(request.ca_pem.encode())
    except ValueError as exc:
        raise _not_issued(str(exc)) from exc
    _check_certificate(certificate, authorities, identity, request.device)
    trust.mkdir(mode=0o700, parents=True, exist_ok=True)
    _forget_other_orders(trust, request.root_json.encode())
    write_durably(trust / "root.json", request.root_json.encode())
    write_durably(identity / CA_FILE, request.ca_pem.encode())
    write_durably(identity / CERTIFICATE_FILE, request.certificate_pem.encode())
    note_identity(identity, trust / "report.json")
    return EnrolmentAccepted(certificate_expires_ms=expires_ms(certificate))


def _forget_other_orders(trust: Path, root: bytes) -> None:
    """The orders of another controller say nothing about those of this one, whose key epochs begin anew: they
    would all be replays."""
    pinned = trust / "root.json"
    if pinned.exists() and pinned.read_bytes() != root:
        remove(trust / "order.json")


def read_certificate(request: ReadCertificate) -> CertificateRead:
    """Raises `EnrolmentError` (``enrol.certificate``, ``enrol.key``) for one that is damaged or of another
    key."""
    identity = Path(request.identity_dir)
    certificate = load_certificate(identity)
    if not is_for(certificate, load_key(identity)):
        raise EnrolmentError(
            f"{identity / CERTIFICATE_FILE} is not for this device's key", code="enrol.certificate"
        )
    return CertificateRead(
        device=", ".join(names_of(certificate)),
        not_before_ms=begins_ms(certificate),
        not_after_ms=expires_ms(certificate),
    )


def store_certificate(request: StoreCertificate) -> CertificateStored:
    """Raises `EnrolmentError` (``enrol.certificate.*``), with the certificate that was there kept: a broker
    in wrong hands cannot take this device its identity."""
    identity, trust = Path(request.identity_dir), Path(request.trust_dir)
    certificate, authorities = _parse(request.certificate_pem), _load_known(identity)
    _check_certificate(certificate, authorities, identity, request.device)
    _check_newer(certificate, identity, authorities)
    if expires_ms(certificate) <= judge_now_ms(trust / "floor.json", request.wall_ms):
        raise EnrolmentError("the renewed certificate ended already", code="enrol.certificate.older")
    write_durably(identity / CERTIFICATE_FILE, request.certificate_pem.encode())
    return CertificateStored(trust=note_identity(identity, trust / "report.json"))


def _load_known(identity: Path) -> list[x509.Certificate]:
    """Return the authorities; none where they cannot be read."""
    try:
        return load_authorities(identity)
    except (OSError, ValueError):
        return []


def _parse(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as exc:
        raise _not_issued(str(exc)) from exc


def _check_certificate(
    certificate: x509.Certificate, authorities: list[x509.Certificate], identity: Path, device: DeviceId
) -> None:
    if find_issuer(certificate, authorities) is None:
        raise _not_issued("another signed it")
    if names_of(certificate) != [device] or not is_for(certificate, load_key(identity)):
        raise EnrolmentError(
            f"the certificate is for {names_of(certificate)}, not for this device's key",
            code="enrol.certificate.subject",
        )


def _check_newer(certificate: x509.Certificate, identity: Path, authorities: list[x509.Certificate]) -> None:
    """An older one of the same key may be brought again by whoever has the broker."""
    try:
        known = load_certificate(identity)
    except EnrolmentError:
        return
    rank, known_rank = _rank(certificate, authorities), _rank(known, authorities)
    if rank > known_rank or (rank == known_rank and expires_ms(certificate) <= expires_ms(known)):
        raise EnrolmentError(
            "the renewed certificate is not newer than the one that this device has",
            hint="nothing is to be done: it is asked for again",
            code="enrol.certificate.older",
        )


def _rank(certificate: x509.Certificate, authorities: list[x509.Certificate]) -> int:
    """0 for one of the newest authority."""
    ranks = (rank for rank, one in enumerate(authorities) if find_issuer(certificate, [one]) is not None)
    return next(ranks, len(authorities))


def _not_issued(why: str) -> EnrolmentError:
    return EnrolmentError(
        f"the certificate is not of the controller's CA: {why}", code="enrol.certificate.issuer"
    )


def _impostor(what: str, *, code: str) -> EnrolmentError:
    return EnrolmentError(
        f"the controller's {what} is not the one that the token names",
        hint="check the address; if the controller was set up anew, make a new token there",
        code=code,
    )
