from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.secure_broker import Site, secure_site


@pytest.fixture
def site(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Site]:
    """Whatever is done to the broker, it meets with no defect."""
    with secure_site(tmp_path) as found:
        yield found
    assert "defect" not in "".join(record.message for record in caplog.get_records("call"))
