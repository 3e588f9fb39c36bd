"""Real parts, started once and shared."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.mosquitto import Mosquitto
from tests.kit.object_store import ObjectStore, object_store
from tests.kit.postgres import postgres
from tests.kit.world import World, running_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A controller with its embedded broker."""
    with running_world(tmp_path) as running:
        yield running


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("s3")) as store:
        yield store
