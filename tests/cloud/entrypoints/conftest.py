"""One controller for all tests of commands, with one device that is enrolled and never runs."""

from collections.abc import Iterator

import pytest

from tests.kit.world import Agent, World, running_world


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("commands")
    with running_world(folder) as world:
        with world.client() as client:
            token = client.create_token({"site": "berlin"}, life_s=600)
        Agent("pi-1", folder, world.controller.url).enrol(token)
        yield world


@pytest.fixture
def server(shared_world: World) -> str:
    return shared_world.controller.url
