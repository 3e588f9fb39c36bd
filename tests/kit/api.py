"""The HTTP API, served over real parts in one folder: SQLite, a blob folder, a lab of keys."""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.routing import BaseRoute

from fleet_cloud.adapters.db.engine import open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.adapters.storage.filesystem import FilesystemBlobs
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.adapters.trust.register import FolderRegister
from fleet_cloud.adapters.trust.tls_folder import CertificateFolder
from fleet_cloud.bootstrap.system import RandomIds, SystemClock
from fleet_cloud.entrypoints.api.access import open_access
from fleet_cloud.entrypoints.api.app import Services, create_app
from fleet_cloud.entrypoints.api.limiting import Limits
from fleet_cloud.services.audit import AuditTrail
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.builds import BuildJobs
from fleet_cloud.services.devices import Inventory
from fleet_cloud.services.enrolment import Site
from fleet_cloud.services.identities import Identities, IdentityParts, open_identities
from fleet_cloud.services.models import Registry
from fleet_cloud.services.overview import Overview
from fleet_cloud.services.packing import Packing
from fleet_cloud.services.ports import BrokerAccess, Issuer
from fleet_cloud.services.releases import Releases
from fleet_cloud.services.rollouts import Rollouts
from fleet_cloud.services.signing import UrlSigner
from fleet_cloud.services.telemetry import Readings
from fleet_cloud.services.tick import Tick
from fleet_cloud.services.tokens import Tokens
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.topics import Topics
from tests.kit.databases import sqlite_in
from tests.kit.people import KIT_TOKEN

BLOB_BYTES_MAX = 16 * 1024 * 1024


@dataclass
class Api:
    url: str
    uow: DatabaseUnitOfWork
    tick: Tick
    blobs: Blobs
    packing: Packing
    registry: Registry
    identities: Identities
    tokens: Tokens
    app: FastAPI
    woken: list[bool] = field(default_factory=list)

    @property
    def served_paths(self) -> set[str]:
        """The path of every route, whether or not it is in the API's documents."""
        return set(_list_paths(self.app.routes))


@contextmanager
def running_api(
    folder: Path,
    limits: Limits | None = None,
    issuer: Issuer | None = None,
    access: BrokerAccess | None = None,
) -> Iterator[Api]:
    """``limits``: none without; ``issuer``: its group ``ops`` are operators."""
    engine = open_engine(sqlite_in(folder))
    uow, clock, ids = DatabaseUnitOfWork(engine), SystemClock(), RandomIds()
    trust, store = ControllerTrust(folder / "trust"), FilesystemBlobs(folder / "blobs")
    packing = Packing(uow, store)
    registry = Registry(uow, trust, store, clock, packing)
    blobs = Blobs(store, uow, UrlSigner(b"k" * 32, clock, uow), BLOB_BYTES_MAX)
    site = Site("fleet/v1", "/releases/metadata", "/releases/targets", BrokerAddress(port=1883))
    woken: list[bool] = []
    tls = CertificateFolder(trust.authority, folder / "tls", ["localhost"])
    register = FolderRegister(folder / "trust" / "devices")
    parts = IdentityParts(trust.authority, trust, register, tls, access)
    identities = open_identities(uow, clock, Topics(), site, parts)
    tokens = Tokens(uow, clock, ids)
    services = Services(
        identities=identities,
        inventory=Inventory(uow, clock),
        registry=registry,
        blobs=blobs,
        rollouts=Rollouts(uow, clock, ids, trust),
        readings=Readings(uow),
        overview=Overview(uow),
        signing=Releases(uow, trust, clock),
        releases=folder / "trust",
        tokens=tokens,
        builds=BuildJobs(uow, store, clock, ids, 60_000),
        audit=AuditTrail(uow),
        access=open_access(
            tokens,
            limits or Limits(0, 0, wrong_per_s=0),
            admin_secrets={"kit": KIT_TOKEN},
            issuer=issuer,
            roles={"ops": "operator"},
        ),
        wake=lambda: woken.append(True),
        broker=lambda: "connected",
    )
    tick = Tick(uow, trust, clock, ids, Topics())
    app = create_app(services)
    with serving(app) as url:
        yield Api(url, uow, tick, blobs, packing, registry, identities, tokens, app, woken)
    engine.dispose()


def _list_paths(routes: Iterable[object], prefix: str = "") -> Iterator[str]:
    for route in routes:
        if isinstance(route, BaseRoute) and isinstance(path := getattr(route, "path", None), str):
            yield f"{prefix}{path}".replace(":path}", "}")
        inner = getattr(route, "original_router", None)
        if inner is not None:
            below = getattr(route.include_context, "prefix", "")  # type: ignore[attr-defined]
            yield from _list_paths(inner.routes, f"{prefix}{below}")


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve ``app`` on a free port; yield its address."""
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        assert started.wait(10)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
