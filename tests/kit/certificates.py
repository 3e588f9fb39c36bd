"""A certificate authority for tests: valid certificates, and every kind that must be refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_cloud.services.ports import TlsFiles
from fleet_shared.durable import write_durably
from fleet_shared.names import Digest, digest_of

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Party:
    """Files of one side, as `TlsFiles`, and the digest of its public key."""

    tls: TlsFiles
    key_sha256: Digest


class TestAuthority:
    """Makes itself in ``folder``; ``issue`` makes a folder with ca.pem, own.pem and own.key for each name."""

    __test__ = False

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name = folder, _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._make(
            self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=0), [], -1, 1
        )

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def issue(
        self,
        name: str,
        *,
        hosts: Sequence[str] = (),
        from_days: float = -1,
        to_days: float = 1,
        believes: Sequence["TestAuthority"] = (),
        folder: Path | None = None,
    ) -> Party:
        """Issue a client certificate, or with ``hosts`` a server's. ``believes``: the authorities that this
        side knows, by default this one."""
        folder = folder or self._folder / name
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        extensions: list[x509.ExtensionType] = [x509.ExtendedKeyUsage([usage])]
        if hosts:
            extensions.append(x509.SubjectAlternativeName([_host(host) for host in hosts]))
        certificate = self._make(
            _name(name),
            key.public_key(),
            x509.BasicConstraints(ca=False, path_length=None),
            extensions,
            from_days,
            to_days,
        )
        tls = TlsFiles(folder / "ca.pem", folder / "own.pem", folder / "own.key")
        write_durably(tls.authorities, b"".join(known.pem for known in believes or (self,)))
        write_durably(tls.certificate, certificate.public_bytes(Encoding.PEM))
        write_durably(
            tls.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600
        )
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Party(tls, digest_of(public))

    def _make(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePublicKey,
        constraints: x509.BasicConstraints,
        extensions: Sequence[x509.ExtensionType],
        from_days: float,
        to_days: float,
    ) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=from_days))
            .not_valid_after(now + timedelta(days=to_days))
            .add_extension(constraints, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
