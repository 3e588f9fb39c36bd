"""What a build sends to register a version: variants without a number."""

from typing import Any

import msgspec

from fleet_shared.manifest import BlobRef, Contract, Role


class VariantDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    contract: Contract
    blobs: dict[Role, BlobRef]


class VersionDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``version``: the wanted number, or none for the next minor one. ``artifacts``: what is kept for
    people, by name."""

    variants: tuple[VariantDraft, ...]
    version: str | None = None
    lineage: dict[str, Any] = {}
    artifacts: dict[str, BlobRef] = {}
