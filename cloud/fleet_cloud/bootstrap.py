"""The composition root of the controller: settings become a running whole."""

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import uuid4

from fleet_cloud.adapters.broker.embedded import HOST, EmbeddedBroker
from fleet_cloud.adapters.db.engine import migrate, open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.adapters.mqtt.gateway import BrokerEndpoint, Gateway
from fleet_cloud.adapters.storage.filesystem import FilesystemBlobs
from fleet_cloud.adapters.storage.releases import ReleaseFolder
from fleet_cloud.adapters.storage.s3 import S3Address, S3Blobs
from fleet_cloud.adapters.trust.lab import LabTrust
from fleet_cloud.addresses import (
    BrokerUrl,
    is_loopback,
    is_s3,
    parse_advertised_broker,
    parse_broker,
    parse_s3,
)
from fleet_cloud.errors import NotFound, SettingsError
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.devices import Inventory
from fleet_cloud.services.enrolment import Enrolling, Site
from fleet_cloud.services.fetching import Fetching
from fleet_cloud.services.models import Registry
from fleet_cloud.services.observe import Observe
from fleet_cloud.services.overview import Overview
from fleet_cloud.services.packing import Packing
from fleet_cloud.services.parts import BlobParts
from fleet_cloud.services.ports import BlobStore, Trust
from fleet_cloud.services.rollouts import Rollouts
from fleet_cloud.services.signing import UrlSigner
from fleet_cloud.services.telemetry import Readings
from fleet_cloud.services.tick import Tick
from fleet_cloud.settings import Settings
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.names import CONTROLLER_PREFIX, DeviceId
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
    gateway: Gateway
    enrolling: Enrolling
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
        trust = LabTrust(settings.data_dir / "trust")
        topics = Topics(settings.topic_root)
        endpoint = _open_broker(settings, stack)
        gateway = Gateway(endpoint, topics, client_id=f"{CONTROLLER_PREFIX}{uuid4().hex[:12]}")
        gateway.start(BROKER_TIMEOUT_S)
        stack.callback(gateway.close)
        yield _wire(settings, topics, DatabaseUnitOfWork(engine), store, trust, gateway, endpoint)


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
    gateway: Gateway,
    endpoint: BrokerEndpoint,
) -> Controller:
    clock, ids = SystemClock(), RandomIds()
    site = Site(settings.topic_root, METADATA_PATH, TARGETS_PATH, advertise_broker(settings, endpoint))
    packing = Packing(uow, store)
    signer = UrlSigner(trust.keys.secret("blob-urls"), clock, uow)
    blobs = Blobs(store, uow, signer, settings.blob_max_bytes)
    releases = ReleaseFolder(settings.data_dir / "trust")
    return Controller(
        settings=settings,
        topics=topics,
        uow=uow,
        trust=trust,
        gateway=gateway,
        enrolling=Enrolling(uow, trust.authority, clock, site),
        inventory=Inventory(uow),
        registry=Registry(uow, trust, store, clock, packing),
        blobs=blobs,
        fetching=Fetching(uow, blobs, BlobParts(store), releases, _not_renewed),
        rollouts=Rollouts(uow, clock, ids),
        tick=Tick(uow, trust, clock, ids, topics),
        observe=Observe(uow, clock, topics),
        readings=Readings(uow),
        overview=Overview(uow),
        packing=packing,
        broker=_describe_broker(settings, endpoint),
    )


def _not_renewed(device: DeviceId, _csr_pem: str) -> str:
    raise NotFound(
        f"the certificate of {device!r} is not renewed here", hint="enrol it again", code="enrol.renewal"
    )


def open_trust(folder: Path) -> Trust:
    """Return the trust of a lab of its own, made in ``folder``: the demo plays a stranger with it."""
    return LabTrust(folder)


def _make_data(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsError(
            f"the data folder {settings.data} cannot be made: {exc}",
            hint="choose another: --data DIR, or FLEET_DATA",
        ) from exc


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


def _open_broker(settings: Settings, stack: ExitStack) -> BrokerEndpoint:
    if not settings.broker:
        broker = EmbeddedBroker(settings.broker_port)
        stack.callback(broker.close)
        return BrokerEndpoint(HOST, broker.port, mqtt5=False)
    url = parse_broker(settings.broker)
    return BrokerEndpoint(url.host, url.port, url.username, url.password)


def advertise_broker(settings: Settings, endpoint: BrokerEndpoint) -> BrokerAddress:
    """Return what devices are told: the address and user that ``broker_advertise`` names, else those
    of the controller. Loopback means another machine to each device: it gets no host, and takes
    the one of the controller's URL."""
    url = BrokerUrl(endpoint.host, endpoint.port)
    host: str | None = None if is_loopback(url.host) else url.host
    if settings.broker_advertise:
        url = parse_advertised_broker(settings.broker_advertise)
        host = url.host
    username, password = url.username, url.password
    if username is None and endpoint.username is not None:
        log.warning("devices get the controller's own broker user: name one for them in broker_advertise")
        username, password = endpoint.username, endpoint.password
    return BrokerAddress(port=url.port, host=host, mqtt5=endpoint.mqtt5, username=username, password=password)


def _describe_broker(settings: Settings, endpoint: BrokerEndpoint) -> str:
    url = BrokerUrl(endpoint.host, endpoint.port)
    return str(url) if settings.broker else f"{url} (embedded)"
