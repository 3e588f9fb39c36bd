from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.secure_broker import Site, secure_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with secure_site(tmp_path) as found:
        yield found
