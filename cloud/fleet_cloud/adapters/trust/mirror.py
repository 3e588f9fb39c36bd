"""The release repository a second time: written in the order in which it is published, and read back where
the folder was restored from an older copy.

What is read back is believed as a device would: from the root that is here, by signatures and hashes.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from fleet_cloud.adapters.trust import roles
from fleet_cloud.adapters.trust.layout import ReleaseFolder, load_signed_root, load_signed_targets
from fleet_cloud.errors import SettingsError
from fleet_cloud.services.ports import ReleaseMirror
from fleet_shared.durable import make_folder, write_durably
from fleet_shared.names import digest_of

log = logging.getLogger(__name__)

FIRST_ROOT = "metadata/1.root.json"
NEWEST = "metadata/timestamp.json"


@dataclass(frozen=True, slots=True)
class Picture:
    """The repository at one instant: its files, none of which changes, and the timestamp that speaks for
    them."""

    files: Mapping[str, Path]
    newest: bytes


def take_picture(files: ReleaseFolder) -> Picture:
    """To be called while nobody publishes."""
    found = _paths(files)
    return Picture(found, found[NEWEST].read_bytes())


def copy_to(here: Picture, mirror: ReleaseMirror) -> int:
    """Put what is missing: targets, metadata, the timestamp last; then remove metadata that is gone here.
    Returns how many files it put. May take as long as the mirror does: others may publish meanwhile."""
    there = mirror.paths()
    missing = sorted(here.files.keys() - there - {NEWEST}, key=_order)
    for path in missing:
        with suppress(FileNotFoundError):  # superseded long ago, and removed meanwhile
            mirror.put(path, here.files[path].read_bytes())
    if mirror.get(NEWEST) != here.newest:
        mirror.put(NEWEST, here.newest)
    for path in there - here.files.keys():
        if path.startswith("metadata/"):
            mirror.remove(path)
    return len(missing)


def restore_from(files: ReleaseFolder, mirror: ReleaseMirror) -> bool:
    """Bring ``files`` up to what the mirror holds, if that is newer; tell whether it was. Raises
    `SettingsError` (``trust.mirror``) for the repository of another controller."""
    first = mirror.get(FIRST_ROOT)
    if first is None:
        return False
    if first != files.file(Root.type, 1).read_bytes():
        raise SettingsError(
            "the bucket holds the releases of another controller, whose devices trust other keys",
            hint="restore that one's data folder from a backup, or choose another prefix in --blobs",
            code="trust.mirror",
        )
    _restore_roots(files, mirror)
    timestamp = _read(mirror.get(NEWEST))
    root = _newest_root(files)
    if timestamp is None or not roles.is_signed(root, Timestamp.type, timestamp):
        return False
    if timestamp.signed.version <= files.version(Timestamp.type):
        return False
    if not _restore_listed(files, mirror, root, timestamp):
        return False
    files.write(Timestamp.type, timestamp)
    log.warning("the release repository was restored from its mirror, which was newer")
    return True


def _restore_roots(files: ReleaseFolder, mirror: ReleaseMirror) -> None:
    while True:
        root = _newest_root(files)
        following = _read(mirror.get(f"metadata/{root.version + 1}.root.json"))
        if following is None or following.signed.version != root.version + 1:
            return
        signed = load_signed_root(following)
        if not (
            roles.is_signed(root, Root.type, following) and roles.is_signed(signed, Root.type, following)
        ):
            return
        files.write(Root.type, following)


def _restore_listed(
    files: ReleaseFolder, mirror: ReleaseMirror, root: Root, timestamp: Metadata[Any]
) -> bool:
    """Restore all that the timestamp speaks for; false, and nothing written, if a part is missing or is not
    signed: what lies here is signed again by our own keys."""
    snapshot = _fetch(mirror, Snapshot.type, timestamp.signed.snapshot_meta)
    if snapshot is None or not roles.is_signed(root, Snapshot.type, snapshot):
        return False
    listed = {name.removesuffix(".json"): info for name, info in snapshot.signed.meta.items()}
    found = {role: _fetch(mirror, role, info) for role, info in listed.items()}
    documents = {role: one for role, one in found.items() if one is not None}
    targets = documents.pop(Targets.type, None)
    if len(documents) + 1 < len(found) or targets is None or not roles.is_signed(root, Targets.type, targets):
        return False
    listing = load_signed_targets(targets)
    if not all(roles.is_signed(listing, role, one) for role, one in documents.items()):
        return False
    for metadata in (targets, *documents.values()):
        for path, file in metadata.signed.targets.items():
            if not _restore_target(files, mirror, path, file.hashes["sha256"]):
                return False
    for role, metadata in (*documents.items(), (Targets.type, targets), (Snapshot.type, snapshot)):
        files.write(role, metadata)
    return True


def _restore_target(files: ReleaseFolder, mirror: ReleaseMirror, path: str, sha256: str) -> bool:
    file = files.target_file(path, sha256)
    if file.exists():
        return True
    content = mirror.get(f"targets/{file.relative_to(files.targets_dir)}")
    if content is None or digest_of(content) != sha256:
        return False
    make_folder(file.parent, parents=True)
    write_durably(file, content)
    return True


def _fetch(mirror: ReleaseMirror, role: str, info: Any) -> Metadata[Any] | None:
    raw = mirror.get(f"metadata/{info.version}.{role}.json")
    if raw is None or not info.hashes or digest_of(raw) != info.hashes["sha256"]:
        return None
    return _read(raw)


def _read(raw: bytes | None) -> Metadata[Any] | None:
    try:
        return None if raw is None else Metadata.from_bytes(raw)
    except DeserializationError:
        return None


def _newest_root(files: ReleaseFolder) -> Root:
    metadata = files.load(Root.type)
    if metadata is None:
        raise ValueError("the repository has not begun")
    return load_signed_root(metadata)


def _paths(files: ReleaseFolder) -> dict[str, Path]:
    base = files.metadata_dir.parent
    found = [*files.metadata_dir.glob("*.json"), *files.targets_dir.rglob("*.json")]
    return {str(file.relative_to(base)): file for file in found if not file.name.startswith(".")}


def _order(path: str) -> tuple[int, str]:
    """Targets first, then bins, targets.json, snapshots, and roots at the end."""
    if path.startswith("targets/"):
        return (0, path)
    role = path.removesuffix(".json").rpartition(".")[2]
    return ({Targets.type: 2, Snapshot.type: 3, Root.type: 4}.get(role, 1), path)
