"""A whole controller for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.world import World, running_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A controller with its embedded broker."""
    with running_world(tmp_path) as running:
        yield running
