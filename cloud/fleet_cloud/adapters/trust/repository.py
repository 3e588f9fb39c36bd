"""The release repository: TUF 1.0 with consistent snapshots and hashed bins, in a folder.

What is to be changed is edited here, and handed to `Publishing`, which signs and publishes or stages it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from fleet_cloud.adapters.trust import roles
from fleet_cloud.adapters.trust.layout import ReleaseFolder, load_signed_root, load_signed_targets
from fleet_cloud.adapters.trust.publishing import Documents, Publishing, no_key
from fleet_cloud.adapters.trust.signers import Signers, sign_with
from fleet_cloud.errors import CloudError

RENEWED_BEFORE: Final = timedelta(days=7)
ASKED_BEFORE: Final = timedelta(days=60)
"""People are asked so much earlier to sign again what they have signed."""

TARGETS_BYTES_MAX: Final = 4_500_000
"""Devices refuse more than 5,000,000 bytes (python-tuf's default); the rest is for new signatures."""


class ReleaseRepository:
    """``signers``: the keys at hand. The repository is there, or `begin` makes it."""

    def __init__(self, folder: Path, signers: Signers) -> None:
        self.files, self.signers = ReleaseFolder(folder), signers
        self._publishing = Publishing(self.files, signers)
        self.files.check_begun()

    @property
    def begun(self) -> bool:
        return self.files.file(Root.type, 1).exists()

    @property
    def root_json(self) -> bytes:
        """The first root: what tokens pin. Clients walk from it to the newest."""
        return self.files.file(Root.type, 1).read_bytes()

    @property
    def timestamp_json(self) -> bytes:
        return self.files.file(Timestamp.type, 0).read_bytes()

    def begin(
        self,
        root: Metadata[Root],
        targets: Mapping[str, bytes],
        *,
        bins: bool,
        more: Sequence[Signer] = (),
    ) -> None:
        """Make the repository from a signed first root, and what every device needs; ``more`` keys sign the
        targets. Without ``bins`` they are made with the first manifest: a first run is fast."""
        first = roles.successor(Targets.type, None)
        for path, raw in targets.items():
            first.signed.targets[path] = roles.describe_target(path, raw)
            self.files.write_target(path, raw)
        documents = {Targets.type: first}
        if bins:
            documents |= self._make_bins(load_signed_targets(first), root.signed)
        for metadata in documents.values() if more else ():
            for signer in more:
                sign_with(signer, metadata)
        self._publishing.begin(root, documents)

    def open(self) -> None:
        """Check that it is whole, and finish what a kill has left half done; raise `SettingsError`."""
        root = self.root()
        for role in roles.ONLINE_ROLES:
            if not self.signers.keyids & set(root.roles[role].keyids):
                raise no_key(role, self.files.metadata_dir)
        self._publishing.submit(self._adopt_bins(self.files.load_staged(), ()))

    def root(self) -> Root:
        return self._publishing.root()

    def targets(self) -> Targets:
        return self._publishing.targets()

    def newest(self, role: str) -> Metadata[Any]:
        return self._publishing.newest(role)

    def staged(self) -> Documents:
        """What waits for signatures, by role."""
        return self.files.load_staged()

    def release(self, targets: Mapping[str, bytes]) -> None:
        """Add targets by path; those that are there already, unchanged, cost nothing. Raises
        `CloudError` (``release.full``) before devices would refuse the metadata."""
        staged = self.files.load_staged()
        changes, fresh = self._adopt_bins(staged, targets), []
        for path, content in targets.items():
            file = roles.describe_target(path, content)
            listing = load_signed_targets(self._current(Targets.type, changes, staged))
            role = roles.role_of(listing, path)
            if load_signed_targets(self._current(role, changes, staged)).targets.get(path) == file:
                continue
            if role not in changes:
                changes[role] = self._edit(role, staged)
            changes[role].signed.targets[path] = file
            fresh.append(path)
        for metadata in changes.values():
            _check_size(metadata)
        for path in fresh:
            self.files.write_target(path, targets[path])
        if changes:
            self._publishing.submit(changes)

    def find_published(self, paths: Iterable[str]) -> frozenset[str]:
        """Return those of ``paths`` that devices can get."""
        targets = self.targets()
        by_role: dict[str, set[str]] = {}
        for path in paths:
            for role in {Targets.type, roles.role_of(targets, path)}:
                by_role.setdefault(role, set()).add(path)
        found: set[str] = set()
        for role, wanted in by_role.items():
            found |= wanted & load_signed_targets(self.newest(role)).targets.keys()
        return frozenset(found)

    def load_target(self, path: str) -> bytes | None:
        """Return the newest published content of ``path``, none if it was never released."""
        file = load_signed_targets(self.newest(roles.role_of(self.targets(), path))).targets.get(path)
        return None if file is None else self.files.load_target(path, file.hashes["sha256"])

    def load_staged_target(self, path: str) -> bytes | None:
        """Return what waits to be published as the target ``path``."""
        waiting = self.files.load_staged().get(Targets.type)
        file = None if waiting is None else waiting.signed.targets.get(path)
        return None if file is None else self.files.load_target(path, file.hashes["sha256"])

    def named_keyids(self) -> set[str]:
        """Return the keys that stand in a role of the root, or of the one that waits."""
        waiting = self.files.load_staged().get(Root.type)
        roots = [self.root(), *([load_signed_root(waiting)] if waiting is not None else [])]
        return {keyid for root in roots for role in root.roles.values() for keyid in role.keyids}

    def refresh(self, now: datetime) -> None:
        """Sign again what ends soon: at once where the keys are at hand, else people are asked."""
        staged, root = self.files.load_staged(), self.root()
        changes: Documents = {}
        for role in (Root.type, Targets.type, *roles.bins_of(self.targets())):
            metadata = self.newest(role)
            before = RENEWED_BEFORE if self._is_at_hand(root, role) else ASKED_BEFORE
            if role not in staged and metadata.signed.expires - now < before:
                changes[role] = roles.successor(role, metadata)
        if changes:
            self._publishing.submit(changes)
        if any(self.newest(role).signed.expires - now < RENEWED_BEFORE for role in roles.ONLINE_ROLES):
            self._publishing.bring_up([self.root()], force=True)

    def catch_up(self, seen: bytes) -> bool:
        """Sign everything again if a newer timestamp of this repository was ``seen`` than it holds: it was
        restored from an older copy, and devices refuse to go back. Tells whether it was."""
        try:
            metadata: Metadata[Any] = Metadata.from_bytes(seen)
        except DeserializationError:
            return False
        timestamp = metadata.signed
        if not isinstance(timestamp, Timestamp) or not roles.is_signed(self.root(), Timestamp.type, metadata):
            return False
        if timestamp.version <= self.newest(Timestamp.type).signed.version:
            return False
        above = max(timestamp.version, timestamp.snapshot_meta.version)
        staged = self.files.load_staged()
        changes = {role: self._edit(role, staged) for role in (Targets.type, *roles.bins_of(self.targets()))}
        for document in changes.values():
            document.signed.version = max(document.signed.version, above + 1)
        self._publishing.submit(changes)
        self._publishing.bring_up([self.root()], force=True, above=above)
        return True

    def next_root(self) -> Metadata[Any]:
        """Return the next root, to be changed for `replace_keys`; one that waits is changed again."""
        return self._edit(Root.type, self.files.load_staged())

    def replace_keys(self, root: Metadata[Any]) -> None:
        """Publish, or stage, a root with other keys, and all that these must sign."""
        signed, staged = load_signed_root(root), self.files.load_staged()
        changes: Documents = {Root.type: root}
        if signed.roles[Targets.type] != self.root().roles[Targets.type]:
            changes[Targets.type] = targets = self._edit(Targets.type, staged)
            listing = load_signed_targets(targets)
            if names := roles.bins_of(listing):
                roles.delegate_bins(listing, signed)
                changes |= {name: self._edit(name, staged) for name in names}
        self._publishing.submit(changes)

    def add_signatures(self, signed: Documents) -> None:
        """Publish what has enough signatures now; ``signed`` is what waits, with more of them."""
        self._publishing.submit(signed)

    def _is_at_hand(self, root: Root, role: str) -> bool:
        needed = root.roles[role if role == Root.type else Targets.type]
        return len(self.signers.keyids & set(needed.keyids)) >= needed.threshold

    def _current(self, role: str, changes: Documents, staged: Documents) -> Metadata[Any]:
        return changes.get(role) or staged.get(role) or self.newest(role)

    def _edit(self, role: str, staged: Documents) -> Metadata[Any]:
        """Return the next document of ``role``. What waits keeps its version; the signatures that it has
        were for something else."""
        if role in staged:
            return Metadata(staged[role].signed)
        return roles.successor(role, self.newest(role))

    def _adopt_bins(self, staged: Documents, wanted: Iterable[str]) -> Documents:
        """Return what makes the bins, where manifests come to a repository that has none: a first run starts
        without, and older ones list manifests among the other targets."""
        listing = load_signed_targets(self._current(Targets.type, {}, staged))
        listed = [path for path in listing.targets if path.startswith(roles.MANIFESTS)]
        if roles.bins_of(listing) or not (listed or any(path.startswith(roles.MANIFESTS) for path in wanted)):
            return {}
        targets = self._edit(Targets.type, staged)
        signed = load_signed_targets(targets)
        bins = self._make_bins(signed, self.root())
        for path in listed:
            bins[roles.role_of(signed, path)].signed.targets[path] = signed.targets.pop(path)
        return {Targets.type: targets, **bins}

    def _make_bins(self, targets: Targets, root: Root) -> Documents:
        roles.delegate_bins(targets, root)
        names, versions = roles.bins_of(targets), self.files.versions()
        newest = max((max(versions.get(name, [0])) for name in names), default=0)
        bins = {name: roles.successor(name, None) for name in names}
        for metadata in bins.values():
            metadata.signed.version = roles.next_version(Targets.type, newest)
            metadata.signed.expires = next(iter(bins.values())).signed.expires
        return bins


def _check_size(metadata: Metadata[Any]) -> None:
    size = len(metadata.to_bytes())
    if size > TARGETS_BYTES_MAX:
        raise CloudError(
            f"the list of releases would have {size} bytes, devices take {TARGETS_BYTES_MAX}",
            hint="this controller holds as many versions as it can: start another for new models",
            code="release.full",
        )
