"""The artifacts of versions: what may be registered, and who may read what."""

from collections.abc import Mapping
from typing import Final

from fleet_cloud.domain.artifacts import find_reader, is_artifact_name
from fleet_cloud.domain.model import ModelVersion
from fleet_cloud.domain.people import Actor
from fleet_cloud.errors import Forbidden, Invalid, NotFound
from fleet_cloud.services.ports import BlobStore
from fleet_shared.manifest import BlobRef
from fleet_shared.names import parse_digest

ARTIFACTS_MAX: Final = 100
"""Of a version: two reports, and a few models for each variant."""


def check_artifacts(artifacts: Mapping[str, BlobRef], blobs: BlobStore) -> None:
    """Raise `Invalid` unless names are names and every blob is in the store, as long as it is said to be."""
    if len(artifacts) > ARTIFACTS_MAX:
        raise Invalid(
            f"a version has at most {ARTIFACTS_MAX} artifacts, not {len(artifacts)}",
            hint="keep fewer models with it",
            code="model.artifact.many",
        )
    for name, blob in artifacts.items():
        if not is_artifact_name(name):
            raise Invalid(
                f"{name[:100]!r} is no name of an artifact",
                hint="lower-case letters, digits, '.', '_' and '-', in one or two parts: keras/int8",
                code="model.artifact.name",
            )
        info = blobs.info(parse_digest(blob.sha256))
        if info is None or info.size_bytes != blob.size_bytes:
            raise Invalid(
                f"the blob {blob.sha256} of artifact {name!r} is not in the store",
                hint="upload all blobs first",
                code="model.blob.missing",
            )


def find_artifact(version: ModelVersion, name: str, by: Actor) -> BlobRef:
    """Return an artifact; raise `NotFound` (``model.artifact.unknown``), or `Forbidden` (``api.role``) when
    it is not for whoever asks."""
    needed = find_reader(name)
    if not by.role.covers(needed):
        raise Forbidden(
            f"this artifact needs the role {needed.value}: {by.name!r} is {by.role.value}",
            hint="reports are for viewers too: report.html, report.json",
            code="api.role",
        )
    found = version.artifacts.get(name)
    if found is None:
        known = ", ".join(sorted(version.artifacts))
        raise NotFound(
            f"{version.model}:{version.version} has no artifact {name[:100]!r}",
            hint=f"it has {known}" if known else "it was registered without any, as imports are",
            code="model.artifact.unknown",
        )
    return found
