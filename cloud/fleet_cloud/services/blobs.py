"""Blobs: who may put and get which."""

from collections.abc import Iterator
from dataclasses import dataclass

from fleet_cloud.domain.people import Actor
from fleet_cloud.domain.rollout import AssignmentState
from fleet_cloud.errors import Forbidden, Invalid, NotFound, Unavailable
from fleet_cloud.services.audit import note
from fleet_cloud.services.ports import BlobInfo, BlobStore, Transaction, UnitOfWork
from fleet_cloud.services.signing import UrlSigner
from fleet_shared.errors import FleetError
from fleet_shared.limits import BLOB_URL_LIFE_S
from fleet_shared.messages.fetch import Chunk, Fetch
from fleet_shared.messages.reported import Failure
from fleet_shared.names import DeviceId, Digest


def unknown_blob(sha256: Digest) -> NotFound:
    return NotFound(f"blob {sha256} is not in the store", hint="upload it first", code="blob.unknown")


def _may_run(state: AssignmentState) -> bool:
    return state.is_open or state is AssignmentState.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Blobs:
    store: BlobStore
    uow: UnitOfWork
    signer: UrlSigner
    max_bytes: int

    def put(self, sha256: Digest, parts: Iterator[bytes], by: Actor) -> tuple[BlobInfo, bool]:
        """Store a blob; tell whether it is new. Raises `Invalid` (``blob.too_large``)."""
        if (known := self.store.info(sha256)) is not None:
            return known, False
        stored = self.store.put(sha256, self._limited(parts))
        with self.uow.begin() as transaction:
            after = {"size_bytes": stored.size_bytes}
            note(transaction, by, self.signer.clock.now_ms(), "blob.put", sha256, after=after)
        return stored, True

    def info(self, sha256: Digest) -> BlobInfo:
        """Raise `NotFound` (``blob.unknown``) when it is not there."""
        found = self.store.info(sha256)
        if found is None:
            raise unknown_blob(sha256)
        return found

    def read(self, sha256: Digest, start: int, end: int) -> Iterator[bytes]:
        return self.store.read(sha256, start, end)

    def url_for(self, device: DeviceId, fetch: Fetch) -> Chunk:
        """Answer a device's question for a blob of its own assignment, open or succeeded: what was
        damaged on its disk is fetched again. Failures that will pass are marked: the device asks again."""
        try:
            with self.uow.read() as transaction:
                self._check_right(transaction, device, fetch)
            self.info(fetch.sha256)
            url = self.store.presigned_url(fetch.sha256, BLOB_URL_LIFE_S)
        except FleetError as exc:
            failure, retry = Failure.of(exc), isinstance(exc, Unavailable)
            return Chunk(request=fetch.request, sha256=fetch.sha256, failure=failure, retry=retry)
        if url is None:
            url = self.signer.sign(fetch.sha256, device, BLOB_URL_LIFE_S)
        return Chunk(request=fetch.request, sha256=fetch.sha256, url=url, life_s=BLOB_URL_LIFE_S)

    def _check_right(self, transaction: Transaction, device: DeviceId, fetch: Fetch) -> None:
        assignment = transaction.assignments.get(fetch.assignment)
        if assignment is None or assignment.device != device or not _may_run(assignment.state):
            raise Forbidden(
                f"device {device!r} has no open or succeeded assignment {fetch.assignment!r}",
                hint="a newer push may have taken its place",
                code="fetch.forbidden",
            )
        version = transaction.models.get(assignment.model, assignment.version)
        variants = version.variants if version is not None else ()
        wanted = [variant for variant in variants if variant.digest == assignment.manifest]
        plain = {blob.sha256 for variant in wanted for blob in variant.manifest.blobs.values()}
        packed = {encoding.sha256 for blob in plain for encoding in transaction.models.encodings(blob)}
        if fetch.sha256 not in plain | packed:
            raise Forbidden(
                f"blob {fetch.sha256} does not belong to assignment {fetch.assignment}",
                hint="ask for the blobs of the manifest and their encodings only",
                code="fetch.forbidden",
            )

    def _limited(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        size = 0
        for part in parts:
            size += len(part)
            if size > self.max_bytes:
                raise Invalid(
                    f"the blob has more than {self.max_bytes} bytes",
                    hint="raise blob_max_bytes in the controller's settings",
                    code="blob.too_large",
                )
            yield part
