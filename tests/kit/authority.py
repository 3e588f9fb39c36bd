"""An authority of a test, and the certificates that it signs: of any name, for any time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY: Final = timedelta(days=1)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def make_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(eq=False)
class Authority:
    """Days are counted from now: from ``begins_days`` to ``ends_days``."""

    name: str = "authority"
    begins_days: float = -1
    ends_days: float = 3650
    key: ec.EllipticCurvePrivateKey = field(default_factory=make_key)

    def __post_init__(self) -> None:
        builder = self._builder(self.name, self.key.public_key(), self.begins_days, self.ends_days)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        builder = builder.add_extension(own, critical=False)
        self.certificate = builder.sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def sign(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        *,
        begins_days: float = -1,
        ends_days: float = 180,
        addresses: Sequence[str] = ("127.0.0.1",),
    ) -> str:
        builder = self._builder(name, key, begins_days, ends_days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(usage, critical=False)
        # Two authorities of one name are told apart by their keys.
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if addresses:
            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(one)) for one in addresses])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def sign_csr(self, csr_pem: str, name: str, *, begins_days: float = -1, ends_days: float = 180) -> str:
        key = x509.load_pem_x509_csr(csr_pem.encode()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return self.sign(name, key, begins_days=begins_days, ends_days=ends_days, addresses=())

    def write(self, folder: Path, stem: str, name: str, **dates: float) -> None:
        """Write a new key and its certificate: STEM.pem and STEM.key."""
        key = make_key()
        (folder / f"{stem}.pem").write_text(self.sign(name, key.public_key(), **dates))  # type: ignore[arg-type]
        (folder / f"{stem}.key").write_bytes(key_pem(key))

    def _builder(
        self, name: str, key: ec.EllipticCurvePublicKey, begins_days: float, ends_days: float
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() + begins_days * DAY)
            .not_valid_after(_now() + ends_days * DAY)
        )
