"""Models, their versions and variants: immutable once released."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_shared.manifest import BlobRef, Manifest
from fleet_shared.names import Digest, ModelName, VariantName
from fleet_shared.version import Version


@dataclass(frozen=True, slots=True)
class Variant:
    """``digest`` is the sha256 of the manifest's canonical bytes."""

    digest: Digest
    manifest: Manifest

    @property
    def name(self) -> VariantName:
        return self.manifest.variant


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """``content`` names what the version consists of, whatever its number: two versions with
    the same content are the same version. ``lineage`` says where it comes from (recipe, data
    digest, libraries, history); ``artifacts``: what is kept for people, by name."""

    model: ModelName
    version: Version
    content: Digest
    created_ms: int
    variants: tuple[Variant, ...]
    lineage: Mapping[str, Any]
    artifacts: Mapping[str, BlobRef] = field(default_factory=dict)
