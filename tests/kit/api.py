"""The HTTP API, served over real parts in one folder: SQLite, a blob folder, a lab of keys."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from fleet_cloud.adapters.db.engine import migrate, open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.adapters.storage.filesystem import FilesystemBlobs
from fleet_cloud.adapters.trust.lab import LabTrust
from fleet_cloud.bootstrap import RandomIds, SystemClock
from fleet_cloud.entrypoints.api.app import Services, create_app
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.devices import Inventory
from fleet_cloud.services.enrolment import Enrolling, Site
from fleet_cloud.services.models import Registry
from fleet_cloud.services.overview import Overview
from fleet_cloud.services.packing import Packing
from fleet_cloud.services.rollouts import Rollouts
from fleet_cloud.services.signing import UrlSigner
from fleet_cloud.services.telemetry import Readings
from fleet_cloud.services.tick import Tick
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.topics import Topics

BLOB_BYTES_MAX = 16 * 1024 * 1024


@dataclass
class Api:
    url: str
    uow: DatabaseUnitOfWork
    tick: Tick
    blobs: Blobs
    packing: Packing
    registry: Registry
    woken: list[bool] = field(default_factory=list)


@contextmanager
def running_api(folder: Path, token: str = "") -> Iterator[Api]:
    engine = open_engine(f"sqlite:///{folder / 'fleet.db'}")
    migrate(engine)
    uow, clock, ids = DatabaseUnitOfWork(engine), SystemClock(), RandomIds()
    trust, store = LabTrust(folder / "trust"), FilesystemBlobs(folder / "blobs")
    packing = Packing(uow, store)
    registry = Registry(uow, trust, store, clock, packing)
    blobs = Blobs(store, uow, UrlSigner(b"k" * 32, clock, uow), BLOB_BYTES_MAX)
    site = Site("fleet/v1", "/releases/metadata", "/releases/targets", BrokerAddress(port=1883))
    woken: list[bool] = []
    services = Services(
        enrolling=Enrolling(uow, trust.authority, clock, site),
        inventory=Inventory(uow),
        registry=registry,
        blobs=blobs,
        rollouts=Rollouts(uow, clock, ids),
        readings=Readings(uow),
        overview=Overview(uow),
        releases=folder / "trust",
        api_token=token,
        wake=lambda: woken.append(True),
        broker=lambda: "connected",
    )
    tick = Tick(uow, trust, clock, ids, Topics())
    with serving(create_app(services)) as url:
        yield Api(url, uow, tick, blobs, packing, registry, woken)
    engine.dispose()


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
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
