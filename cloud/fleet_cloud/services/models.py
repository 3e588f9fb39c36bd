"""The registry of models: versions are immutable, the same content is the same version."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

import msgspec

from fleet_cloud.domain.model import ModelVersion, Variant
from fleet_cloud.domain.people import Actor
from fleet_cloud.errors import Conflict, Invalid, NotFound
from fleet_cloud.services.artifacts import check_artifacts
from fleet_cloud.services.audit import note
from fleet_cloud.services.drafts import VersionDraft
from fleet_cloud.services.packing import Packing
from fleet_cloud.services.ports import BlobStore, Clock, Transaction, Trust, UnitOfWork
from fleet_shared.manifest import BlobRef, Metrics, compose_manifest, digest_of_manifest, encode_manifest
from fleet_shared.messages.desired import EncodedBlob
from fleet_shared.names import (
    Digest,
    ModelName,
    digest_of,
    parse_digest,
    parse_model_name,
    parse_variant_name,
)
from fleet_shared.version import FIRST, ModelRef, Version

ATTEMPTS: Final = 5
"""A number that somebody else took in between is chosen anew so often."""


@dataclass(frozen=True, slots=True)
class Registered:
    """``created`` is false when the same content was registered before."""

    version: ModelVersion
    created: bool


@dataclass(frozen=True, slots=True)
class Registry:
    uow: UnitOfWork
    trust: Trust
    blobs: BlobStore
    clock: Clock
    packing: Packing

    def register(self, model: str, draft: VersionDraft, by: Actor) -> Registered:
        """Register a version. Its manifests are released before its row commits, and outside of the
        transaction, which would keep everybody else waiting: a released manifest without a version
        is harmless, the other way round would not be."""
        name = parse_model_name(model)
        _check_variants(draft)
        content = _content(draft)
        with self.uow.read() as transaction:
            if (known := transaction.models.find_content(name, content)) is not None:
                return Registered(_same_number(known, draft), created=False)
        self._check_blobs(draft)
        check_artifacts(draft.artifacts, self.blobs)
        encodings = self.packing.pack_now(_blobs(draft))
        for _ in range(ATTEMPTS):
            with self.uow.read() as transaction:
                number = _choose_number(transaction, name, draft)
            version = self._compose(name, number, content, draft)
            self.trust.release({v.digest: encode_manifest(v.manifest) for v in version.variants})
            try:
                registered = self._add(version, encodings, draft, by)
            except Conflict as exc:
                if exc.code != "database.conflict":
                    raise
                registered = None  # somebody was faster between the look and the write
            if registered is not None:
                return registered
        raise Conflict(
            f"{name} gets versions from somebody else all the time", hint="try again", code="model.busy"
        )

    def _add(
        self, version: ModelVersion, encodings: Sequence[EncodedBlob], draft: VersionDraft, by: Actor
    ) -> Registered | None:
        """Add the version, or return the one with its content; none if its number is taken."""
        with self.uow.begin() as transaction:
            if (known := transaction.models.find_content(version.model, version.content)) is not None:
                return Registered(_same_number(known, draft), created=False)
            if _choose_number(transaction, version.model, draft) != version.version:
                return None
            transaction.models.add(version)
            for encoding in encodings:
                transaction.models.add_encoding(encoding)
            subject = f"{version.model}:{version.version}"
            after: dict[str, object] = {variant.name: variant.digest for variant in version.variants}
            if version.artifacts:
                after["artifacts"] = sorted(version.artifacts)
            note(transaction, by, version.created_ms, "version.register", subject, after=after)
        return Registered(version, created=True)

    def release_missing(self) -> int:
        """Release, or let wait, the manifests of every version that the release repository does not list: it
        was restored from an older copy than the database. Returns how many."""
        with self.uow.read() as transaction:
            versions = transaction.models.versions(None)
        manifests = {one.digest: one.manifest for version in versions for one in version.variants}
        missing = self.trust.unsigned(manifests)
        if missing:
            self.trust.release({digest: encode_manifest(manifests[digest]) for digest in missing})
        return len(missing)

    def find_unsigned(self, *versions: ModelVersion) -> frozenset[Digest]:
        """Return the manifests of these versions that wait for the release keys."""
        return self.trust.unsigned(one.digest for version in versions for one in version.variants)

    def get(self, reference: ModelRef) -> ModelVersion:
        with self.uow.begin() as transaction:
            return get_version(transaction, reference)

    def versions(self, model: ModelName | None) -> Sequence[ModelVersion]:
        """All versions, newest first; raise `NotFound` for an unknown model."""
        with self.uow.begin() as transaction:
            found = transaction.models.versions(model)
            if model is not None and not found:
                get_version(transaction, ModelRef(model, None))
            return found

    def _check_blobs(self, draft: VersionDraft) -> None:
        for variant in draft.variants:
            for blob in variant.blobs.values():
                info = self.blobs.info(blob.sha256)
                if info is None or info.size_bytes != blob.size_bytes:
                    raise Invalid(
                        f"blob {blob.sha256} of variant {variant.name!r} is not in the store",
                        hint="upload all blobs first",
                        code="model.blob.missing",
                    )

    def _compose(
        self, model: ModelName, number: Version, content: Digest, draft: VersionDraft
    ) -> ModelVersion:
        manifests = [
            compose_manifest(
                model=model,
                version=str(number),
                variant=parse_variant_name(variant.name),
                contract=variant.contract,
                blobs=variant.blobs,
            )
            for variant in draft.variants
        ]
        return ModelVersion(
            model=model,
            version=number,
            content=content,
            created_ms=self.clock.now_ms(),
            variants=tuple(Variant(digest_of_manifest(manifest), manifest) for manifest in manifests),
            lineage=draft.lineage,
            artifacts=draft.artifacts,
        )


def _check_variants(draft: VersionDraft) -> None:
    """Raise unless names are different and every digest is one: digests become paths."""
    names = [parse_variant_name(variant.name) for variant in draft.variants]
    if not names or len(set(names)) != len(names):
        raise Invalid(
            "a version needs one or more variants with different names",
            hint="give each variant a name of its own",
            code="model.variants",
        )
    for variant in draft.variants:
        for blob in variant.blobs.values():
            parse_digest(blob.sha256)


def _choose_number(transaction: Transaction, model: ModelName, draft: VersionDraft) -> Version:
    if draft.version is None:
        newest = transaction.models.newest(model)
        return FIRST if newest is None else newest.version.next_minor()
    wanted = Version.parse(draft.version)
    if transaction.models.get(model, wanted) is not None:
        raise Conflict(
            f"{model}:{wanted} exists with other content",
            hint="a version never changes: choose another number, or leave it out",
            code="model.version.exists",
        )
    return wanted


def get_version(transaction: Transaction, reference: ModelRef) -> ModelVersion:
    """Return a version, the newest without a number; raise `NotFound` with what comes close."""
    model, number = reference
    found = transaction.models.newest(model) if number is None else transaction.models.get(model, number)
    if found is not None:
        return found
    versions = transaction.models.versions(model)
    if versions:
        known = ", ".join(str(version.version) for version in versions[:5])
        raise NotFound(
            f"{model} has no version {number}", hint=f"it has {known}", code="model.version.unknown"
        )
    names = sorted({version.model for version in transaction.models.versions(None)})
    close = get_close_matches(model, names, 3)
    hint = f"did you mean {', '.join(close)}?" if close else "fleet model list shows all"
    raise NotFound(f"no model {model!r}", hint=hint, code="model.unknown")


def _same_number(known: ModelVersion, draft: VersionDraft) -> ModelVersion:
    if draft.version is not None and Version.parse(draft.version) != known.version:
        raise Conflict(
            f"the same content is registered already as {known.model}:{known.version}",
            hint="push that version; a second number for it would mean nothing",
            code="model.content.exists",
        )
    return known


def _content(draft: VersionDraft) -> Digest:
    """Name what the version consists of: the blobs of each variant and what its contract promises,
    without what is measured anew at each build (metrics, the golden tolerance, artifacts)."""
    contents = {
        variant.name: {
            "blobs": {role.value: blob.sha256 for role, blob in variant.blobs.items()},
            "contract": msgspec.structs.replace(
                variant.contract,
                metrics=Metrics(),
                golden=msgspec.structs.replace(variant.contract.golden, tolerance=0.0),
            ),
        }
        for variant in draft.variants
    }
    return digest_of(msgspec.json.encode(contents, order="sorted"))


def _blobs(draft: VersionDraft) -> list[BlobRef]:
    """Return each blob once: variants share their labels, for example."""
    return list({blob.sha256: blob for variant in draft.variants for blob in variant.blobs.values()}.values())
