"""What a device asks for at the broker: the URL of a blob, a part of one, a release file, a certificate.

Failures are answers too; those that will pass are marked, and the device asks again.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleet_cloud.errors import NotFound, Unavailable
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.devices import check_not_revoked
from fleet_cloud.services.parts import BlobParts
from fleet_cloud.services.ports import ReleaseFiles, UnitOfWork
from fleet_shared.errors import FleetError
from fleet_shared.limits import BLOB_URL_LIFE_S, PART_BYTES
from fleet_shared.messages.fetch import Chunk, Fetch, Part
from fleet_shared.messages.reported import Failure
from fleet_shared.names import DeviceId

RELEASE_PATH: Final = re.compile(r"(?:metadata|targets)(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){1,3}")
"""What may be asked for of the release repository, over HTTP and here: the same folder holds keys."""

_FIRST: Final = Part(offset=0, length=PART_BYTES)


@dataclass(frozen=True, slots=True)
class Reply:
    """``content``: bytes that follow the chunk; none where it has none."""

    chunk: Chunk
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Fetching:
    """``renew`` gives a device a new certificate (PEM) for its CSR. A revoked device gets nothing."""

    uow: UnitOfWork
    blobs: Blobs
    parts: BlobParts
    releases: ReleaseFiles
    renew: Callable[[DeviceId, str], str]

    def answer(self, device: DeviceId, fetch: Fetch) -> Reply:
        try:
            return self._answer(device, fetch)
        except FleetError as exc:
            failure, retry = Failure.of(exc), isinstance(exc, Unavailable)
            return Reply(Chunk(request=fetch.request, sha256=fetch.sha256, failure=failure, retry=retry))

    def _answer(self, device: DeviceId, fetch: Fetch) -> Reply:
        if fetch.csr_pem is not None:
            self._check_device(device)
            return Reply(Chunk(request=fetch.request), self.renew(device, fetch.csr_pem).encode())
        if fetch.file is not None:
            self._check_device(device)
            return self._answer_file(fetch, fetch.file)
        self.blobs.check_right(device, fetch.assignment, fetch.sha256)
        if fetch.part is not None:
            content, total = self.parts.read(fetch.sha256, fetch.part.offset, fetch.part.length)
            return _reply_part(fetch, fetch.part, content, total)
        url = self.blobs.url_for(device, fetch.sha256)
        return Reply(Chunk(request=fetch.request, sha256=fetch.sha256, url=url, life_s=BLOB_URL_LIFE_S))

    def _answer_file(self, fetch: Fetch, path: str) -> Reply:
        part = fetch.part or _FIRST
        found = self.releases.read(path, part.offset, part.length) if RELEASE_PATH.fullmatch(path) else None
        if found is None:
            raise NotFound(
                f"nothing is released at {path!r}",
                hint="clients begin with metadata/timestamp.json",
                code="release.unknown",
            )
        return _reply_part(fetch, part, *found)

    def _check_device(self, device: DeviceId) -> None:
        with self.uow.read() as transaction:
            check_not_revoked(transaction.devices.get(device))


def _reply_part(fetch: Fetch, part: Part, content: bytes, total: int) -> Reply:
    chunk = Chunk(request=fetch.request, sha256=fetch.sha256, offset=part.offset, total_bytes=total)
    return Reply(chunk, content)
