"""What a device hears when its blob cannot be named: whether to ask again."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleet_cloud.adapters.storage.filesystem import FilesystemBlobs
from fleet_cloud.bootstrap import SystemClock
from fleet_cloud.errors import CloudError, Conflict, Unavailable
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.signing import UrlSigner
from fleet_shared.messages.fetch import Fetch
from fleet_shared.names import AssignmentId, DeviceId, Digest

FETCH = Fetch(request="r", assignment=AssignmentId("a"), sha256=Digest("0" * 64))


class Database:
    """Knows no assignment, or fails."""

    def __init__(self, failure: CloudError | None) -> None:
        self.failure = failure

    def begin(self) -> AbstractContextManager[Any]:
        return self.read()

    @contextmanager
    def read(self) -> Iterator[Any]:
        if self.failure is not None:
            raise self.failure
        yield SimpleNamespace(assignments=SimpleNamespace(get=lambda _name: None))


@pytest.mark.parametrize(
    ("failure", "code", "retry"),
    [
        (Unavailable("away", code="database.unreachable"), "database.unreachable", True),
        (Conflict("twice", code="database.conflict"), "database.conflict", False),
        (None, "fetch.forbidden", False),
    ],
)
def test_what_will_pass_is_asked_for_again(
    tmp_path: Path, failure: CloudError | None, code: str, retry: bool
) -> None:
    signer = UrlSigner(b"k" * 32, SystemClock())
    chunk = Blobs(FilesystemBlobs(tmp_path), Database(failure), signer, 1).url_for(DeviceId("d"), FETCH)
    assert chunk.failure is not None
    assert (chunk.failure.code, chunk.retry) == (code, retry)
