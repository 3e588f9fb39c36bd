"""The kinds of certificates that Fleet issues, and what each of them may be used for.

A device's is good for a client only, and has its id as CN; so is the controller's own, whose CN starts
with ``ctl-``, which no device can be called. A server's is good for a server only: whoever steals the key
of a broker cannot come to another broker as the controller. Pure: keys and times are given.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_shared.limits import CERTIFICATE_LIFE_S, SERVER_CERTIFICATE_LIFE_S

AUTHORITY_LIFE: Final = timedelta(days=3650)
DEVICE_LIFE: Final = timedelta(seconds=CERTIFICATE_LIFE_S)
SERVER_LIFE: Final = timedelta(seconds=SERVER_CERTIFICATE_LIFE_S)
REVOCATIONS_LIFE: Final = timedelta(days=90)
"""A broker refuses everybody once its list has ended: it must outlast a controller that is away."""
BACKDATED: Final = timedelta(days=1)
"""Devices' clocks are a little off."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate authority at work."""

    key: EllipticCurvePrivateKey
    certificate: x509.Certificate


def make_authority(key: EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Return a certificate for ``key``, signed by itself. Two authorities of one controller differ in
    their names: who checks a chain looks for the issuer by its name."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = common_name(f"Fleet CA {identifier.digest.hex()[:12]}")
    return (
        _builder(name, name, key.public_key(), now, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def make_client(
    signer: Signer, key: CertificatePublicKeyTypes, name: str, now: datetime, identity: str
) -> x509.Certificate:
    """Return a certificate for a client called ``name``; ``identity``: the same as a URI."""
    alternatives = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    return _leaf(signer, key, name, now, DEVICE_LIFE, alternatives, ExtendedKeyUsageOID.CLIENT_AUTH)


def make_server(
    signer: Signer, key: CertificatePublicKeyTypes, hosts: Sequence[str], now: datetime
) -> x509.Certificate:
    """Return a certificate for a server that is reached by ``hosts``: names and addresses."""
    alternatives = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    # A CN has at most 64 characters, and clients look at the other names only.
    return _leaf(
        signer, key, "Fleet controller", now, SERVER_LIFE, alternatives, ExtendedKeyUsageOID.SERVER_AUTH
    )


def make_revocations(
    signer: Signer, revoked: Iterable[tuple[int, datetime]], now: datetime
) -> x509.CertificateRevocationList:
    """Return the list of revoked serial numbers. Each authority lists all of them: a serial is a random
    number of 159 bits, so one of another authority in it does no harm."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(now - BACKDATED)
        .next_update(now + REVOCATIONS_LIFE)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
        .add_extension(_issuer_key(signer), critical=False)
    )
    for serial, at in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(signer.key, hashes.SHA256())


def hosts_of(certificate: x509.Certificate) -> set[str]:
    """Return the names and addresses by which a server's certificate is valid."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in found}


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def names_of(name: x509.Name) -> list[str]:
    return [str(one.value) for one in name.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _leaf(
    signer: Signer,
    key: CertificatePublicKeyTypes,
    name: str,
    now: datetime,
    life: timedelta,
    alternatives: x509.SubjectAlternativeName,
    use: x509.ObjectIdentifier,
) -> x509.Certificate:
    end = min(now + life, signer.certificate.not_valid_after_utc)
    return (
        _builder(common_name(name), signer.certificate.subject, key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_issuer_key(signer), critical=False)
        .sign(signer.key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
    )


def _issuer_key(signer: Signer) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
