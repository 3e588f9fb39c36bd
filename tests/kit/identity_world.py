"""The use cases of identities over a real database, authority and folders, with a door in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet_cloud.adapters.db.engine import open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.adapters.trust.register import FolderRegister
from fleet_cloud.adapters.trust.tls_folder import CertificateFolder
from fleet_cloud.domain.device import Device
from fleet_cloud.services.enrolment import Site
from fleet_cloud.services.identities import Identities, IdentityParts, open_identities
from fleet_cloud.services.ports import BrokerAccess, TlsFiles
from fleet_shared.messages.enrolment import BrokerAddress, EnrolReply, EnrolRequest
from fleet_shared.names import DeviceId
from fleet_shared.topics import Topics
from tests.kit.doors import Door
from tests.kit.identities import make_csr, make_key
from tests.kit.parts import Moving
from tests.kit.people import ADMIN

NOW_MS = 1_795_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SITE = Site("fleet/v1", "/m", "/t", BrokerAddress(port=1883))


@dataclass
class IdentityWorld:
    """``connected_ms``: since when the broker is connected; ``access``: a real broker's, in place of the
    ``door``."""

    folder: Path
    uow: DatabaseUnitOfWork
    trust: ControllerTrust
    tls: CertificateFolder
    clock: Moving = field(default_factory=lambda: Moving(NOW_MS))
    door: Door = field(default_factory=Door)
    keys: dict[str, EllipticCurvePrivateKey] = field(default_factory=dict)
    connected_ms: int | None = 1
    access: BrokerAccess | None = None
    update_broker_files: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> Identities:
        """Put the use cases together anew, as another process would."""
        register = FolderRegister(self.folder / "trust" / "devices")
        access = self.access or self.door
        parts = IdentityParts(
            self.trust.authority, self.trust, register, self.tls, access, self.update_broker_files
        )
        self.identities = open_identities(
            self.uow, self.clock, Topics(), SITE, parts, lambda: self.connected_ms
        )
        return self.identities

    def token(self, *, uses: int = 1, life_s: int = 3600, device: str | None = None, **labels: str) -> str:
        """Return the secret of a new token."""
        enrolling = self.identities.enrolling
        return enrolling.create_token(labels, life_s, ADMIN, uses=uses, device=device).secret

    def csr(self, device: str, *, new_key: bool = False) -> str:
        if new_key:
            self.keys.pop(device, None)
        return make_csr(device, self.keys.setdefault(device, make_key()))

    def enrol(
        self,
        device: str = "pi-1",
        secret: str | None = None,
        *,
        new_key: bool = False,
        origin: str = "10.0.0.9",
    ) -> EnrolReply:
        """Enrol with a token of its own unless a ``secret`` is given."""
        request = EnrolRequest(
            secret=self.token() if secret is None else secret,
            device=DeviceId(device),
            csr_pem=self.csr(device, new_key=new_key),
        )
        return self.identities.enrolling.enrol(request, origin)

    def device(self, name: str = "pi-1") -> Device | None:
        with self.uow.read() as transaction:
            return transaction.devices.get(DeviceId(name))

    def actions(self) -> list[str]:
        """Return what the audit log tells, oldest first."""
        with self.uow.read() as transaction:
            return [f"{c.entry.action} {c.entry.subject}" for c in transaction.audit.page(0, 1000)]

    def listed(self) -> set[int]:
        """Return the serial numbers in the revocation list."""
        return {entry.serial_number for entry in x509.load_pem_x509_crl(self.tls.revocations.read_bytes())}

    def files(self, device: str, reply: EnrolReply | None = None) -> TlsFiles:
        """Return the files of a device as its agent stores them; enrolled now unless a ``reply`` is given."""
        given = reply or self.enrol(device)
        folder = self.folder / "agents" / f"{device}-{serial_of(given.certificate_pem):x}"
        folder.mkdir(parents=True)
        files = TlsFiles(folder / "ca.pem", folder / "certificate.pem", folder / "key.pem")
        key = self.keys[device].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files.key.write_bytes(key)
        files.certificate.write_text(given.certificate_pem)
        files.authorities.write_text(given.ca_pem)
        return files


def serial_of(pem: str) -> int:
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


@contextmanager
def identity_world(url: str, folder: Path) -> Iterator[IdentityWorld]:
    """``url``: of a database that is up to date."""
    engine = open_engine(url)
    trust = ControllerTrust(folder / "trust")
    tls = CertificateFolder(trust.authority, folder / "tls", ["localhost", "127.0.0.1"])
    yield IdentityWorld(folder, DatabaseUnitOfWork(engine), trust, tls)
    engine.dispose()
