"""The folder ``tls``: whom the controller believes, who it is as a server and as a client, who is revoked.

    authorities.pem                 all authorities that are believed, newest first
    server.pem, server.key          of the embedded broker and of the HTTP API
    controller.pem, controller.key  of the controller as a client of the broker; CN ``ctl-...``
    crl.pem                         the revocation list of each authority

Each file is replaced at once or not at all. A key stays when its certificate is renewed, so that a reader
between two writes never sees a pair that does not belong together. Certificates are written before
authorities: what the older authority issued is gone before the older authority is.
"""

import secrets
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_cloud.adapters.trust.ca import Authority
from fleet_cloud.adapters.trust.certificates import (
    REVOCATIONS_LIFE,
    hosts_of,
    make_client,
    make_server,
    names_of,
)
from fleet_cloud.adapters.trust.tls_keys import load_or_make_key
from fleet_cloud.services.ports import TlsFiles
from fleet_shared.durable import write_durably
from fleet_shared.names import CONTROLLER_PREFIX

RENEWED_AT: Final = 1 / 3
"""How much of its life is left when a certificate, or a list, is renewed."""

Issue = Callable[[EllipticCurvePublicKey, datetime], x509.Certificate]


class CertificateFolder:
    """Implements `TlsFolder`. ``hosts``: names and addresses by which the servers are reached."""

    def __init__(self, authority: Authority, folder: Path, hosts: Sequence[str]) -> None:
        self._authority, self._hosts = authority, tuple(hosts)
        self._lock = threading.Lock()
        self.authorities, self.revocations = folder / "authorities.pem", folder / "crl.pem"
        self.server = TlsFiles(self.authorities, folder / "server.pem", folder / "server.key")
        self.controller = TlsFiles(self.authorities, folder / "controller.pem", folder / "controller.key")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def controller_id(self) -> str:
        """The name in the controller's certificate: also its user name and client id at the broker."""
        return _read_name(self.controller.certificate) or f"{CONTROLLER_PREFIX}{secrets.token_hex(6)}"

    def renew(self, at_ms: int) -> None:
        now = datetime.fromtimestamp(at_ms / 1000, timezone.utc)
        with self._lock:
            self._renew(self.server, self._issue_server, now)
            self._renew(self.controller, self._issue_controller, now)
            _write_changed(self.authorities, self._authority.ca_pem)

    def write_revocations(self, revoked: Sequence[tuple[str, int]], at_ms: int) -> None:
        now = datetime.fromtimestamp(at_ms / 1000, timezone.utc)
        with self._lock:
            issuers = [issuer.signer.certificate.subject for issuer in self._authority.issuers]
            if not _lists(self.revocations, revoked, issuers, now):
                write_durably(self.revocations, self._authority.make_revocations(revoked, at_ms).encode())

    def _renew(self, files: TlsFiles, issue: Issue, now: datetime) -> None:
        key = load_or_make_key(files.key).public_key()
        if not self._is_good(files.certificate, key, self._wanted_hosts(files), now):
            write_durably(files.certificate, issue(key, now).public_bytes(Encoding.PEM))

    def _is_good(self, file: Path, key: EllipticCurvePublicKey, hosts: set[str], now: datetime) -> bool:
        """Tell whether a certificate is that of the key, the authority and the hosts, and lasts."""
        certificate = _read(file)
        if certificate is None or certificate.public_key() != key or not hosts <= hosts_of(certificate):
            return False
        try:
            certificate.verify_directly_issued_by(self._authority.serving.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return start <= now and end - now > (end - start) * RENEWED_AT

    def _wanted_hosts(self, files: TlsFiles) -> set[str]:
        return set(self._hosts) if files == self.server else set()

    def _issue_server(self, key: EllipticCurvePublicKey, now: datetime) -> x509.Certificate:
        return make_server(self._authority.serving, key, self._hosts, now)

    def _issue_controller(self, key: EllipticCurvePublicKey, now: datetime) -> x509.Certificate:
        name = self.controller_id
        return make_client(self._authority.serving, key, name, now, f"urn:fleet:controller:{name}")


def _read(file: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError):
        return None


def _read_name(file: Path) -> str | None:
    certificate = _read(file)
    names = [] if certificate is None else names_of(certificate.subject)
    return next((name for name in names if name.startswith(CONTROLLER_PREFIX)), None)


def _write_changed(file: Path, content: str) -> None:
    if not file.exists() or file.read_text() != content:
        write_durably(file, content.encode())


def _lists(
    file: Path, revoked: Sequence[tuple[str, int]], issuers: Sequence[x509.Name], now: datetime
) -> bool:
    """Tell whether the file has a list of each authority, of exactly these, that is not old yet."""
    try:
        text = file.read_text()
        parts = [part for part in text.split("-----BEGIN X509 CRL-----") if part.strip()]
        lists = [x509.load_pem_x509_crl(f"-----BEGIN X509 CRL-----{part}".encode()) for part in parts]
    except (OSError, ValueError):
        return False
    wanted = {int(serial, 16) for serial, _ in revoked}
    return [one.issuer for one in lists] == list(issuers) and all(
        {entry.serial_number for entry in one} == wanted
        and one.last_update_utc <= now
        and one.next_update_utc is not None
        and one.next_update_utc - now > REVOCATIONS_LIFE * RENEWED_AT
        for one in lists
    )
