"""Settings become a running whole: the use cases over their adapters."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from fleet_cloud.adapters.db.engine import migrate, open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.adapters.mqtt.gateway import Gateway
from fleet_cloud.adapters.storage.releases import ReleaseFolder
from fleet_cloud.adapters.storage.s3 import S3Blobs, S3Releases
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.adapters.trust.register import FolderRegister
from fleet_cloud.adapters.trust.tls_folder import CertificateFolder
from fleet_cloud.bootstrap.brokers import Door, advertise_broker, describe_broker, open_door
from fleet_cloud.bootstrap.data_folder import holding, make_data
from fleet_cloud.bootstrap.edges import (
    find_certificate,
    open_blobs,
    open_certificates,
    open_issuer,
    trust_folder,
)
from fleet_cloud.bootstrap.system import RandomIds, SystemClock
from fleet_cloud.local import keep_admin_token
from fleet_cloud.services.audit import AuditTrail
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.builds import BuildJobs
from fleet_cloud.services.devices import Inventory
from fleet_cloud.services.enrolment import Site
from fleet_cloud.services.fetching import Fetching
from fleet_cloud.services.identities import Identities, IdentityParts, open_identities
from fleet_cloud.services.models import Registry
from fleet_cloud.services.observe import Observe
from fleet_cloud.services.overview import Overview
from fleet_cloud.services.packing import Packing
from fleet_cloud.services.parts import BlobParts
from fleet_cloud.services.ports import BlobStore, Issuer, TlsFiles
from fleet_cloud.services.releases import Releases
from fleet_cloud.services.resigning import Resigning
from fleet_cloud.services.rollouts import Rollouts
from fleet_cloud.services.signing import UrlSigner
from fleet_cloud.services.telemetry import Readings
from fleet_cloud.services.tick import Tick
from fleet_cloud.services.tokens import Tokens
from fleet_cloud.settings import Settings
from fleet_shared.topics import Topics

METADATA_PATH: Final = "/releases/metadata"
TARGETS_PATH: Final = "/releases/targets"


@dataclass(frozen=True, slots=True)
class Controller:
    """The use cases, and what the loops need."""

    settings: Settings
    topics: Topics
    uow: DatabaseUnitOfWork
    trust: ControllerTrust
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
    builds: BuildJobs
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
        make_data(settings)
        stack.enter_context(holding(settings.data_dir))
        engine = open_engine(settings.database_url)
        stack.callback(engine.dispose)
        migrate(engine)
        store = open_blobs(settings)
        mirror = S3Releases(store.bucket) if isinstance(store, S3Blobs) else None
        trust = ControllerTrust(trust_folder(settings), mirror)
        tls = open_certificates(settings, trust)
        door = open_door(settings, Topics(settings.topic_root), tls, stack)
        yield _wire(settings, DatabaseUnitOfWork(engine), store, trust, tls, door)


def _wire(
    settings: Settings,
    uow: DatabaseUnitOfWork,
    store: BlobStore,
    trust: ControllerTrust,
    tls: CertificateFolder,
    door: Door,
) -> Controller:
    clock, ids, topics = SystemClock(), RandomIds(), Topics(settings.topic_root)
    site = Site(settings.topic_root, METADATA_PATH, TARGETS_PATH, advertise_broker(settings, door.endpoint))
    register = FolderRegister(trust_folder(settings) / "devices")
    parts = IdentityParts(trust.authority, trust, register, tls, door.access, door.refresh)
    identities = open_identities(uow, clock, topics, site, parts, lambda: door.gateway.connected_ms)
    identities.upkeep.start()
    packing = Packing(uow, store)
    signer = UrlSigner(trust.keys.secret("blob-urls"), clock, uow)
    blobs = Blobs(store, uow, signer, settings.blob_max_bytes)
    releases = ReleaseFolder(trust_folder(settings))
    return Controller(
        settings=settings,
        topics=topics,
        uow=uow,
        trust=trust,
        tls=tls,
        gateway=door.gateway,
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
        builds=BuildJobs(uow, store, clock, ids, int(settings.build_lease_s * 1000)),
        audit=AuditTrail(uow),
        issuer=open_issuer(settings),
        admin_token=keep_admin_token(settings.data_dir),
        https=find_certificate(settings, tls.server),
        broker=describe_broker(settings, door.endpoint),
    )
