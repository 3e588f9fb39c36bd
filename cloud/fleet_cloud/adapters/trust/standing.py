"""How the trust stands: which keys sign what, until when, and what waits for whom."""

from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from fleet_cloud.adapters.trust import roles
from fleet_cloud.adapters.trust.layout import load_signed_root
from fleet_cloud.adapters.trust.repository import ReleaseRepository
from fleet_cloud.services.ports import RoleStanding, TrustStanding, Waiting

BINS = "manifests"


def describe_standing(repository: ReleaseRepository, epoch: int, assignment_keyid: str) -> TrustStanding:
    root, staged = repository.root(), repository.staged()
    listed = [describe_role(repository, root, role) for role in roles.ROLES]
    if names := roles.bins_of(repository.targets()):
        ends = [_ms(repository.newest(name)) for name in names]
        targets = root.roles[Targets.type]
        at_hand = tuple(keyid for keyid in targets.keyids if keyid in repository.signers.keyids)
        version = max(repository.files.version(name) for name in names)
        listed.append(
            RoleStanding(BINS, tuple(targets.keyids), targets.threshold, at_hand, version, min(ends))
        )
    return TrustStanding(
        root_version=root.version,
        key_epoch=epoch,
        assignment_keyid=assignment_keyid,
        roles=tuple(listed),
        waiting=tuple(_waiting(role, metadata, root, staged) for role, metadata in sorted(staged.items())),
    )


def describe_role(repository: ReleaseRepository, root: Root, role: str) -> RoleStanding:
    metadata, keys = repository.newest(role), root.roles[role]
    return RoleStanding(
        role=role,
        keyids=tuple(keys.keyids),
        threshold=keys.threshold,
        at_hand=tuple(keyid for keyid in keys.keyids if keyid in repository.signers.keyids),
        version=metadata.signed.version,
        expires_ms=_ms(metadata),
    )


def _waiting(role: str, metadata: Metadata[Any], root: Root, staged: dict[str, Metadata[Any]]) -> Waiting:
    """Whose signatures are missing: those of the published root, and of the one that waits."""
    top = role if role in roles.ROLES else Targets.type
    known = [root, *([load_signed_root(staged[Root.type])] if Root.type in staged else [])]
    asked = known if role == Root.type else known[-1:]
    missing = 0
    keyids: dict[str, None] = {}
    for one in asked:
        given = [keyid for keyid in one.roles[top].keyids if keyid in metadata.signatures]
        missing = max(missing, one.roles[top].threshold - len(given))
        keyids.update(dict.fromkeys(k for k in one.roles[top].keyids if k not in metadata.signatures))
    return Waiting(role, metadata.signed.version, missing, tuple(keyids))


def _ms(metadata: Metadata[Any]) -> int:
    return int(metadata.signed.expires.timestamp() * 1000)
