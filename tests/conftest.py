"""Real parts for all tests: a broker for each test, one database server and object store a run."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.kit.mosquitto import Mosquitto, mosquitto_broker
from tests.kit.object_store import ObjectStore, object_store
from tests.kit.postgres import Postgres, postgres
from tests.kit.world import World

LOG_LINES = 40


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every log in the folders of a test that failed."""
    report = yield
    if report.failed:
        for log in _find_logs(getattr(item, "funcargs", {})):
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            report.sections.append((f"end of {log.name}", "\n".join(lines)))
    return report


def _find_logs(fixtures: dict[str, object]) -> list[Path]:
    worlds = {fixture.folder for fixture in fixtures.values() if isinstance(fixture, World)}
    own = fixtures.get("tmp_path")
    folders = worlds | ({own} if isinstance(own, Path) else set())
    return sorted({log for folder in folders for log in folder.rglob("*.log")})


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto_broker(tmp_path) as broker:
        yield broker


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> str:
    """An empty database."""
    return postgres_server.create_database()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("s3")) as store:
        yield store
