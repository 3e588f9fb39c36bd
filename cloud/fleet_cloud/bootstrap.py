"""The composition root of the controller: settings become a running whole."""

import fcntl
import logging
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, assert_never
from uuid import uuid4

from fleet_cloud.adapters.broker.embedded import EmbeddedBroker
from fleet_cloud.adapters.broker.identity import parse_identity
from fleet_cloud.adapters.db.engine import migrate, open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.adapters.mosquitto.access import DynamicSecurity
from fleet_cloud.adapters.mosquitto.commands import entry_of
from fleet_cloud.adapters.mosquitto.configuration import Place, write_configuration
from fleet_cloud.adapters.mosquitto.control import Control
from fleet_cloud.adapters.mosquitto.files import BrokerFiles, Reload, files_in
from fleet_cloud.adapters.mqtt.gateway import BrokerEndpoint, Gateway
from fleet_cloud.adapters.oidc.issuer import OpenIdIssuer
from fleet_cloud.adapters.storage.filesystem import FilesystemBlobs
from fleet_cloud.adapters.storage.releases import ReleaseFolder
from fleet_cloud.adapters.storage.s3 import S3Address, S3Blobs, S3Releases
from fleet_cloud.adapters.trust.hosts import find_hosts
from fleet_cloud.adapters.trust.lab import LabTrust
from fleet_cloud.adapters.trust.register import FolderRegister
from fleet_cloud.adapters.trust.tls_folder import CertificateFolder
from fleet_cloud.addresses import (
    BrokerUrl,
    clean_host,
    is_loopback,
    is_s3,
    parse_advertised_broker,
    parse_broker,
    parse_hosts,
    parse_s3,
)
from fleet_cloud.errors import SettingsError
from fleet_cloud.local import keep_admin_token
from fleet_cloud.services.audit import AuditTrail
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.devices import Inventory, all_devices
from fleet_cloud.services.enrolment import Site
from fleet_cloud.services.fetching import Fetching
from fleet_cloud.services.identities import Identities, IdentityParts, open_identities
from fleet_cloud.services.models import Registry
from fleet_cloud.services.observe import Observe
from fleet_cloud.services.overview import Overview
from fleet_cloud.services.packing import Packing
from fleet_cloud.services.parts import BlobParts
from fleet_cloud.services.ports import BlobStore, BrokerAccess, Issuer, TlsFiles, Trust
from fleet_cloud.services.releases import Releases
from fleet_cloud.services.resigning import Resigning
from fleet_cloud.services.rollouts import Rollouts
from fleet_cloud.services.signing import UrlSigner
from fleet_cloud.services.telemetry import Readings
from fleet_cloud.services.tick import Tick
from fleet_cloud.services.tokens import Tokens
from fleet_cloud.settings import Settings, TlsMode
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.names import CONTROLLER_PREFIX
from fleet_shared.topics import Topics

log = logging.getLogger(__name__)

BROKER_TIMEOUT_S = 10.0
METADATA_PATH = "/releases/metadata"
TARGETS_PATH = "/releases/targets"


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class RandomIds:
    def new_id(self) -> str:
        return uuid4().hex


@dataclass(frozen=True, slots=True)
class Controller:
    """The use cases, and what the loops need."""

    settings: Settings
    topics: Topics
    uow: DatabaseUnitOfWork
    trust: LabTrust
    tls: CertificateFolder
    gateway: Gateway
    identities: Identities
    inventory: Inventory
    registry: Registry
    blobs: Blobs
    fetching: Fetching
    rollouts: Rollouts
    tick: Tick
    observe: Observe
    readings: Readings
    overview: Overview
    packing: Packing
    resigning: Resigning
    signing: Releases
    tokens: Tokens
    audit: AuditTrail
    issuer: Issuer | None
    admin_token: str
    """That of the data folder."""
    https: TlsFiles | None
    """The certificate of the API, none for plain HTTP."""
    broker: str
    """The broker in use, to be shown: without user and password."""


@contextmanager
def build_controller(settings: Settings) -> Iterator[Controller]:
    """Open everything that ``settings`` name; raise `CloudError` when a part is away."""
    with ExitStack() as stack:
        _make_data(settings)
        stack.enter_context(_holding(settings.data_dir))
        engine = open_engine(settings.database_url)
        stack.callback(engine.dispose)
        migrate(engine)
        store = _open_blobs(settings)
        mirror = S3Releases(store) if isinstance(store, S3Blobs) else None
        trust = LabTrust(trust_folder(settings), mirror)
        tls = open_certificates(settings, trust)
        topics = Topics(settings.topic_root)
        endpoint, embedded = _open_broker(settings, topics, tls, stack)
        gateway = Gateway(endpoint, topics, client_id=_client_id(endpoint, tls))
        reload = _open_reload(settings, tls)
        access: BrokerAccess | None = embedded
        if settings.broker_access == "dynsec":  # before the gateway connects: it listens to the answers
            access = security = DynamicSecurity(Control(gateway), topics, reload)
            reload = security.refresh
        gateway.start(BROKER_TIMEOUT_S)
        stack.callback(gateway.close)
        uow = DatabaseUnitOfWork(engine)
        yield _wire(settings, topics, uow, store, trust, tls, gateway, endpoint, access, reload)


@contextmanager
def _holding(data: Path) -> Iterator[None]:
    """Keep the data folder to this process: two would write keys, metadata and decisions side by side."""
    with _open_lock(data / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise SettingsError(
                f"another controller runs on {data}",
                hint="stop that one first, or choose another folder: --data",
                code="data.in_use",
            ) from exc
        yield


def _open_lock(path: Path) -> IO[str]:
    try:
        return path.open("w")
    except OSError as exc:
        raise SettingsError(
            f"the data folder {path.parent} cannot be written: {exc.strerror}",
            hint="check its owner and permissions, or choose another: --data DIR, or FLEET_DATA",
        ) from exc


def _wire(
    settings: Settings,
    topics: Topics,
    uow: DatabaseUnitOfWork,
    store: BlobStore,
    trust: LabTrust,
    tls: CertificateFolder,
    gateway: Gateway,
    endpoint: BrokerEndpoint,
    access: BrokerAccess | None,
    reload: Callable[[], None],
) -> Controller:
    clock, ids = SystemClock(), RandomIds()
    site = Site(settings.topic_root, METADATA_PATH, TARGETS_PATH, advertise_broker(settings, endpoint))
    register = FolderRegister(trust_folder(settings) / "devices")
    parts = IdentityParts(trust.authority, trust, register, tls, access, reload)
    identities = open_identities(uow, clock, topics, site, parts, lambda: gateway.connected_ms)
    identities.upkeep.start()
    packing = Packing(uow, store)
    signer = UrlSigner(trust.keys.secret("blob-urls"), clock, uow)
    blobs = Blobs(store, uow, signer, settings.blob_max_bytes)
    releases = ReleaseFolder(settings.data_dir / "trust")
    return Controller(
        settings=settings,
        topics=topics,
        uow=uow,
        trust=trust,
        tls=tls,
        gateway=gateway,
        identities=identities,
        inventory=Inventory(uow, clock),
        registry=Registry(uow, trust, store, clock, packing),
        blobs=blobs,
        fetching=Fetching(uow, blobs, BlobParts(store), releases, identities.enrolling.renew),
        rollouts=Rollouts(uow, clock, ids, trust),
        tick=Tick(uow, trust, clock, ids, topics),
        observe=Observe(uow, clock, topics, lambda: trust.key_epoch),
        readings=Readings(uow),
        overview=Overview(uow),
        packing=packing,
        resigning=Resigning(uow, trust, clock, topics),
        signing=Releases(uow, trust, clock),
        tokens=Tokens(uow, clock, ids),
        audit=AuditTrail(uow),
        issuer=_open_issuer(settings),
        admin_token=keep_admin_token(settings.data_dir),
        https=_find_certificate(settings, tls.server),
        broker=_describe_broker(settings, endpoint),
    )


def open_certificates(settings: Settings, trust: LabTrust) -> CertificateFolder:
    """Return the folder of certificates, brought up to date: brokers and API begin with what is in it."""
    hosts = [*parse_hosts(settings.tls_names, "tls_names"), settings.host]
    hosts.append(parse_broker(settings.broker).host if settings.broker else settings.broker_host)
    if settings.broker_advertise:
        hosts.append(parse_advertised_broker(settings.broker_advertise).host)
    tls = CertificateFolder(trust.authority, settings.data_dir / "tls", find_hosts(hosts))
    tls.renew(SystemClock().now_ms())
    return tls


def trust_folder(settings: Settings) -> Path:
    return settings.data_dir / "trust"


def open_trust(folder: Path) -> Trust:
    """Return the trust of a lab of its own, made in ``folder``: the demo plays a stranger with it."""
    return LabTrust(folder)


def read_certificate_name(file: Path) -> str:
    """Return whom a certificate (PEM) names: the demo plays a thief of the controller's with it."""
    identity = parse_identity(ssl.PEM_cert_to_DER_cert(file.read_text()))
    return identity.name if identity else ""


def _make_data(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsError(
            f"the data folder {settings.data} cannot be made: {exc}",
            hint="choose another: --data DIR, or FLEET_DATA",
        ) from exc


def _find_certificate(settings: Settings, own: TlsFiles) -> TlsFiles | None:
    """Return the certificate that the API shows, as the settings say."""
    match settings.tls_mode:
        case TlsMode.OFF:
            return None
        case TlsMode.GIVEN:
            given = Path(settings.tls_certificate)
            return TlsFiles(authorities=given, certificate=given, key=Path(settings.tls_key))
        case TlsMode.OWN:
            return own
        case other:
            assert_never(other)


def _open_issuer(settings: Settings) -> Issuer | None:
    if not settings.oidc_issuer:
        return None
    return OpenIdIssuer(
        settings.oidc_issuer, settings.oidc_audience, settings.oidc_role_claim, settings.oidc_name_claim
    )


def _open_blobs(settings: Settings) -> BlobStore:
    if not is_s3(settings.blobs):
        return FilesystemBlobs(Path(settings.blobs_place))
    s3 = parse_s3(settings.blobs)
    store = S3Blobs(
        S3Address(
            bucket=s3.bucket,
            prefix=s3.prefix,
            endpoint=s3.endpoint,
            region=s3.region,
            access_key=settings.s3_access_key or None,
            secret_key=settings.s3_secret_key or None,
            advertise=settings.s3_advertise or None,
        )
    )
    store.check()
    return store


def _open_broker(
    settings: Settings, topics: Topics, tls: CertificateFolder, stack: ExitStack
) -> tuple[BrokerEndpoint, EmbeddedBroker | None]:
    """Return where the broker is, and the embedded one if it is that."""
    if not settings.broker:
        if is_loopback(settings.broker_host) and not is_loopback(settings.host):
            log.warning("devices elsewhere do not reach the embedded broker: name its address, --broker-host")
        broker = EmbeddedBroker(settings.broker_host, settings.broker_port, topics, tls.server)
        stack.callback(broker.close)
        host = clean_host(settings.broker_host) or broker.loopback
        return BrokerEndpoint(host, broker.port, mqtt5=False, tls=tls.controller), broker
    url = parse_broker(settings.broker)
    if url.tls:
        return BrokerEndpoint(url.host, url.port, url.username, url.password, tls=tls.controller), None
    log.warning("the broker %s is used without TLS: nobody there is known for who he is", url)
    return BrokerEndpoint(url.host, url.port, url.username, url.password), None


def _client_id(endpoint: BrokerEndpoint, tls: CertificateFolder) -> str:
    """Where certificates tell who is who, the broker takes the name in the certificate anyway."""
    return f"{CONTROLLER_PREFIX}{uuid4().hex[:12]}" if endpoint.tls is None else tls.controller_id


def _open_reload(settings: Settings, tls: CertificateFolder) -> Callable[[], None]:
    if not settings.broker_files:
        return lambda: None
    return Reload(_broker_files(tls), files_in(Path(settings.broker_files)), settings.broker_reload)


def _broker_files(tls: CertificateFolder) -> BrokerFiles:
    return BrokerFiles(tls.authorities, tls.revocations, tls.server.certificate, tls.server.key)


def configure_mosquitto(settings: Settings, folder: Path, state: Path, port: int, address: str) -> list[Path]:
    """Write what a Mosquitto needs for this controller, whether that runs or not: its devices are let in from
    the start. Return the files."""
    place = Place(folder, state, port, address)
    _make_data(settings)
    engine = open_engine(settings.database_url)
    try:
        migrate(engine)
        tls = open_certificates(settings, LabTrust(trust_folder(settings)))
        if not tls.revocations.exists():
            tls.write_revocations([], SystemClock().now_ms())
        topics = Topics(settings.topic_root)
        with DatabaseUnitOfWork(engine).read() as transaction:
            known = [device for device in all_devices(transaction) if device.revoked_ms is None]
        entries = [entry_of(topics, device.id, device.public_key_sha256) for device in known]
        return write_configuration(place, topics, tls.controller_id, entries, _broker_files(tls))
    finally:
        engine.dispose()


def advertise_broker(settings: Settings, endpoint: BrokerEndpoint) -> BrokerAddress:
    """Return what devices are told: the address and user that ``broker_advertise`` names, else those
    of the controller. Loopback means another machine to each device: it gets no host, and takes
    the one of the controller's URL."""
    tls = endpoint.tls is not None
    url = BrokerUrl(endpoint.host, endpoint.port, tls=tls)
    host: str | None = None if is_loopback(url.host) else url.host
    if settings.broker_advertise:
        url = parse_advertised_broker(settings.broker_advertise, tls=tls)
        host = url.host
    username, password = url.username, url.password
    if username is None and endpoint.username is not None:
        log.warning("devices get the controller's own broker user: name one for them in broker_advertise")
        username, password = endpoint.username, endpoint.password
    return BrokerAddress(
        port=url.port,
        host=host,
        tls=url.tls,
        mqtt5=endpoint.mqtt5,
        username=username,
        password=password,
    )


def _describe_broker(settings: Settings, endpoint: BrokerEndpoint) -> str:
    url = BrokerUrl(endpoint.host, endpoint.port, tls=endpoint.tls is not None)
    return str(url) if settings.broker else f"{url} (embedded)"
