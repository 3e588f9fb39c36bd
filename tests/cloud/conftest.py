"""The use cases over SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_cloud.adapters.db.engine import open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.adapters.storage.filesystem import FilesystemBlobs
from fleet_cloud.adapters.storage.releases import ReleaseFolder
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.fetching import Fetching
from fleet_cloud.services.models import Registry
from fleet_cloud.services.observe import Observe
from fleet_cloud.services.packing import Packing
from fleet_cloud.services.parts import BlobParts
from fleet_cloud.services.rollouts import Rollouts
from fleet_cloud.services.signing import UrlSigner
from fleet_cloud.services.tick import Tick
from fleet_shared.names import DeviceId
from fleet_shared.topics import Topics
from tests.kit.databases import bring_up_to_date, sqlite_in
from tests.kit.identity_world import IdentityWorld, identity_world
from tests.kit.parts import Counting, Moving, Parts
from tests.kit.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Postgres) -> str:
    url = postgres_server.create_database()
    bring_up_to_date(url)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that is up to date."""
    if request.param == "sqlite":
        return sqlite_in(tmp_path)
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.create_database(request.getfixturevalue("postgres_template"))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fleet.db'}"
    found: str = request.getfixturevalue("postgres_url")
    return found


def renewed(device: DeviceId, csr_pem: str) -> str:
    return f"certificate of {device} for {csr_pem}"


@pytest.fixture
def parts(url: str, tmp_path: Path) -> Iterator[Parts]:
    engine = open_engine(url)
    uow, clock, ids, topics = DatabaseUnitOfWork(engine), Moving(), Counting(), Topics()
    trust, store = ControllerTrust(tmp_path / "trust"), FilesystemBlobs(tmp_path / "blobs")
    blobs = Blobs(store, uow, UrlSigner(b"k" * 32, clock, uow), 10**6)
    yield Parts(
        uow, clock, Registry(uow, trust, store, clock, Packing(uow, store)), Rollouts(uow, clock, ids, trust),
        Tick(uow, trust, clock, ids, topics), Observe(uow, clock, topics),
        blobs, Fetching(uow, blobs, BlobParts(store), ReleaseFolder(tmp_path / "trust"), renewed),
    )  # fmt: skip
    engine.dispose()


@pytest.fixture
def identities(url: str, tmp_path: Path) -> Iterator[IdentityWorld]:
    with identity_world(url, tmp_path) as world:
        yield world


@pytest.fixture
def local_identities(tmp_path: Path) -> Iterator[IdentityWorld]:
    """For what is not about the database."""
    with identity_world(sqlite_in(tmp_path), tmp_path) as world:
        yield world
