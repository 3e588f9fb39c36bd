"""Blobs: who may put and get which."""

from collections.abc import Iterator
from dataclasses import dataclass

from fleet_cloud.domain.people import Actor
from fleet_cloud.domain.rollout import Assignment, AssignmentState
from fleet_cloud.errors import Forbidden, Invalid
from fleet_cloud.services.audit import note
from fleet_cloud.services.devices import check_not_revoked
from fleet_cloud.services.parts import unknown_blob
from fleet_cloud.services.ports import BlobInfo, BlobStore, Transaction, UnitOfWork
from fleet_cloud.services.signing import UrlSigner
from fleet_shared.limits import BLOB_URL_LIFE_S
from fleet_shared.names import AssignmentId, DeviceId, Digest


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

    def url_for(self, device: DeviceId, sha256: Digest) -> str:
        """Return an address of a blob that lives `BLOB_URL_LIFE_S`; raise `NotFound`."""
        self.info(sha256)
        url = self.store.presigned_url(sha256, BLOB_URL_LIFE_S)
        return self.signer.sign(sha256, device, BLOB_URL_LIFE_S) if url is None else url

    def check_right(self, device: DeviceId, assignment: AssignmentId, sha256: Digest) -> None:
        """Raise `Forbidden` unless the blob belongs to an assignment of this device that is open or has
        succeeded: what was damaged on its disk is fetched again. A revoked device has no right."""
        with self.uow.read() as transaction:
            check_not_revoked(transaction.devices.get(device))
            found = transaction.assignments.get(assignment)
            if found is None or found.device != device or not _may_run(found.state):
                raise Forbidden(
                    f"device {device!r} has no open or succeeded assignment {assignment!r}",
                    hint="a newer push may have taken its place",
                    code="fetch.forbidden",
                )
            if sha256 not in _blobs_of(transaction, found):
                raise Forbidden(
                    f"blob {sha256} does not belong to assignment {assignment}",
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


def _blobs_of(transaction: Transaction, assignment: Assignment) -> set[Digest]:
    """The blobs of its manifest, plain and packed."""
    version = transaction.models.get(assignment.model, assignment.version)
    variants = version.variants if version is not None else ()
    wanted = [variant for variant in variants if variant.digest == assignment.manifest]
    plain = {blob.sha256 for variant in wanted for blob in variant.manifest.blobs.values()}
    return plain | {encoding.sha256 for blob in plain for encoding in transaction.models.encodings(blob)}
