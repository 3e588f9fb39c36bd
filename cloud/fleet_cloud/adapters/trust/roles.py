"""The roles of the release repository, and the documents that they sign. Pure but for the time.

Manifests lie in hashed bins, which the targets keys sign as well: a release writes the bin of each manifest
anew, whatever else was ever released. The top-level targets list only what every device needs.

Versions are seconds since 1970, or one above the version before: a repository that was restored from an
older copy goes on above all that devices may have seen. Roots are counted one by one, as the specification
wants it.
"""

import time
from collections.abc import Iterable, Mapping
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, Final

from securesystemslib.signer import Key
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from fleet_shared.envelope import TIMESTAMP_ISSUED_MS

LIFE: Final = MappingProxyType(
    {
        Root.type: timedelta(days=3650),
        Targets.type: timedelta(days=365),
        Snapshot.type: timedelta(days=90),
        Timestamp.type: timedelta(days=30),
    }
)
"""Bins live as long as targets."""

ROLES: Final = (Root.type, Targets.type, Snapshot.type, Timestamp.type)
ONLINE_ROLES: Final = (Snapshot.type, Timestamp.type)
"""Signed by the controller itself, at each release and each renewal."""

BIN_BITS: Final = 6
BIN_PREFIX: Final = "manifests"
MANIFESTS: Final = "manifests/"


def next_version(role: str, newest: int) -> int:
    return newest + 1 if role == Root.type else max(newest + 1, int(time.time()))


def end_of(role: str) -> datetime:
    return (datetime.now(timezone.utc) + LIFE.get(role, LIFE[Targets.type])).replace(microsecond=0)


def successor(role: str, newest: Metadata[Any] | None) -> Metadata[Any]:
    """Return the document after ``newest``, unsigned, to be changed."""
    kinds = {Root.type: Root, Snapshot.type: Snapshot, Timestamp.type: Timestamp}
    signed = kinds.get(role, Targets)() if newest is None else deepcopy(newest.signed)
    signed.version = next_version(role, 0 if newest is None else signed.version)
    signed.expires = end_of(role)
    return Metadata(signed)


def first_root(keys: Mapping[str, Iterable[Key]], thresholds: Mapping[str, int]) -> Metadata[Root]:
    root = Root(version=1, expires=end_of(Root.type), consistent_snapshot=True)
    for role in ROLES:
        for key in keys[role]:
            root.add_key(key, role)
        root.roles[role].threshold = thresholds.get(role, 1)
    return Metadata(root)


def delegate_bins(targets: Targets, root: Root) -> None:
    """Delegate manifests to bins that the targets keys of ``root`` sign."""
    role = root.roles[Targets.type]
    keys = {keyid: root.keys[keyid] for keyid in role.keyids}
    succinct = SuccinctRoles(list(role.keyids), role.threshold, BIN_BITS, BIN_PREFIX)
    targets.delegations = Delegations(keys=keys, succinct_roles=succinct)


def bins_of(targets: Targets) -> list[str]:
    """Return the names of all bins; none in a repository without."""
    succinct = targets.delegations.succinct_roles if targets.delegations else None
    return [] if succinct is None else list(succinct.get_roles())


def role_of(targets: Targets, path: str) -> str:
    """Return the role that lists the target ``path``."""
    succinct = targets.delegations.succinct_roles if targets.delegations else None
    if succinct is None or not path.startswith(MANIFESTS):
        return Targets.type
    return str(succinct.get_role_for_target(path))


def describe_target(path: str, content: bytes) -> TargetFile:
    return TargetFile.from_data(path, content, ["sha256"])


def keyids_of(delegator: Root | Targets, role: str) -> list[str]:
    return list(delegator.get_delegated_role(role).keyids)


def is_signed(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> bool:
    """Tell whether enough of the keys that ``delegator`` names for ``role`` have signed."""
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (UnsignedMetadataError, ValueError):
        return False
    return True


def next_snapshot(
    newest: Metadata[Any] | None, infos: Mapping[str, MetaFile], *, force: bool
) -> Metadata[Any] | None:
    """Return the snapshot of ``infos``; none when the newest says just that."""
    if newest is not None and newest.signed.meta == infos and not force:
        return None
    metadata = successor(Snapshot.type, newest)
    metadata.signed.meta = dict(infos)
    return metadata


def next_timestamp(newest: Metadata[Any] | None, info: MetaFile, *, force: bool) -> Metadata[Any] | None:
    if newest is not None and newest.signed.snapshot_meta == info and not force:
        return None
    metadata = successor(Timestamp.type, newest)
    metadata.signed.unrecognized_fields[TIMESTAMP_ISSUED_MS] = time.time_ns() // 1_000_000
    metadata.signed.snapshot_meta = info
    return metadata
