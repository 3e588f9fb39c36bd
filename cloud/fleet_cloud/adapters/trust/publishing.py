"""How documents come to be published: signed by the keys at hand, chosen, written in order.

What has enough signatures is published, the rest is staged and waits for people. Order of writes: bins,
targets.json, snapshot, timestamp, and a new root at the end. A reader at any instant sees a consistent
repository, and a writer that was killed is repaired by the next one. While keys are replaced, documents are
signed by the old and the new ones, so that they are valid before and after the new root.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from fleet_cloud.adapters.trust import roles
from fleet_cloud.adapters.trust.layout import ReleaseFolder, load_signed_root, load_signed_targets
from fleet_cloud.adapters.trust.signers import Signers, sign_with
from fleet_cloud.errors import SettingsError
from fleet_shared.durable import remove

SUPERSEDED_KEPT_S: Final = 3600.0
"""A client that began with an older timestamp has ended by then."""

Documents = dict[str, Metadata[Any]]


@dataclass(frozen=True, slots=True)
class Publishing:
    files: ReleaseFolder
    signers: Signers

    def newest(self, role: str) -> Metadata[Any]:
        """Return what is published; raise `SettingsError` (``trust.metadata``) when it is gone."""
        found = self.files.load(role)
        if found is None:
            raise SettingsError(
                f"the release metadata of {role!r} is missing in {self.files.metadata_dir}",
                hint="restore the folder from a backup",
                code="trust.metadata",
            )
        return found

    def root(self) -> Root:
        return load_signed_root(self.newest(Root.type))

    def targets(self) -> Targets:
        return load_signed_targets(self.newest(Targets.type))

    def begin(self, root: Metadata[Root], documents: Documents) -> None:
        """Make the repository; with the first root, which is written last, it has begun. Until then it waits,
        so that what a kill leaves is known for a beginning and not for a repository that lost its root."""
        signed = root.signed
        self.files.stage({Root.type: root})
        self.files.remove_unbegun()
        self.sign(documents, [signed], [load_signed_targets(documents[Targets.type])])
        self._write(documents)
        self.bring_up([signed])
        self.files.write(Root.type, root)
        self.files.stage({})

    def submit(self, changes: Documents) -> None:
        """Sign ``changes`` and what waits, publish what has enough signatures, and stage the rest."""
        staged = self.files.load_staged()
        waiting = {**staged, **changes}
        root = self.root()
        new_root = load_signed_root(waiting[Root.type]) if Root.type in waiting else None
        known = [root] if new_root is None else [root, new_root]
        self.sign(waiting, known, [self.targets(), *_targets_in(waiting)])
        documents = None if new_root is None else self._choose_with(root, new_root, waiting)
        if documents is None:
            documents, new_root = self._choose(root, waiting), None
        left = {role: one for role, one in waiting.items() if role not in documents}
        if new_root is not None:
            self.files.stage(waiting)  # whatever a kill leaves half done, the next start ends
        self._write(documents)
        self.bring_up([root] if new_root is None else [root, new_root], also=known)
        if new_root is not None:
            self.files.write(Root.type, left.pop(Root.type))
        if left or staged or new_root is not None:
            self.files.stage(left)
        self._remove_superseded()

    def sign(self, documents: Documents, roots: Sequence[Root], listings: Sequence[Targets]) -> None:
        """Add the signatures of all keys at hand that any of the delegators asks for."""
        for role, metadata in documents.items():
            delegators = roots if role in roles.ROLES else listings
            for keyid in _keyids(delegators, role) - metadata.signatures.keys():
                if (signer := self.signers.find(keyid)) is not None:
                    sign_with(signer, metadata)

    def bring_up(
        self, roots: Sequence[Root], *, also: Sequence[Root] = (), force: bool = False, above: int = 0
    ) -> None:
        """Bring snapshot and timestamp up to what is published, valid under each of ``roots``, of which the
        last counts; keys of the roots ``also`` known sign too. New versions are higher than ``above``."""
        versions = self.files.versions()
        targets = max(versions[Targets.type])
        names = [Targets.type, *roles.bins_of(self.targets())]
        newest = self.files.load(Snapshot.type)
        known: dict[str, MetaFile] = {} if newest is None else newest.signed.meta
        infos: dict[str, MetaFile] = {}
        for name in names:
            version = targets if name == Targets.type else max(versions[name])
            info = known.get(f"{name}.json")
            if info is None or info.version != version or not info.hashes:
                info = self.files.describe(name, version)
            infos[f"{name}.json"] = info
        again = force or not _is_signed_under(roots, Snapshot.type, newest)
        self._renew(roles.next_snapshot(newest, infos, force=again), Snapshot.type, roots, also, above)
        newest = self.files.load(Timestamp.type)
        info = self.files.describe(Snapshot.type, self.files.version(Snapshot.type))
        again = force or not _is_signed_under(roots, Timestamp.type, newest)
        self._renew(roles.next_timestamp(newest, info, force=again), Timestamp.type, roots, also, above)

    def _renew(
        self,
        metadata: Metadata[Any] | None,
        role: str,
        roots: Sequence[Root],
        also: Sequence[Root],
        above: int,
    ) -> None:
        if metadata is None:
            return
        metadata.signed.version = max(metadata.signed.version, above + 1)
        self.sign({role: metadata}, [*roots, *also], [])
        if not roles.is_signed(roots[-1], role, metadata):
            raise no_key(role, self.files.metadata_dir)
        self.files.write(role, metadata)

    def _choose(self, root: Root, waiting: Documents) -> Documents:
        """Return what of ``waiting`` is valid under ``root``, together with what is published. While
        targets with other keys wait, bins must be valid for both: published for the old ones alone, they
        would be lost to the new ones."""
        published = self.newest(Targets.type)
        targets = waiting.get(Targets.type)
        fits = targets is not None and self._fits(root, published, targets, waiting)
        listings = [load_signed_targets(targets if targets is not None and fits else published)]
        if targets is not None and not fits:
            listings.append(load_signed_targets(targets))
        chosen = {
            role: one
            for role, one in waiting.items()
            if role not in roles.ROLES
            and all(roles.is_signed(listing, role, one) for listing in listings if roles.bins_of(listing))
        }
        return {**chosen, Targets.type: targets} if targets is not None and fits else chosen

    def _choose_with(self, root: Root, new_root: Root, waiting: Documents) -> Documents | None:
        """Return what is published together with ``new_root``; none while signatures are missing."""
        metadata = waiting[Root.type]
        if not (
            roles.is_signed(root, Root.type, metadata) and roles.is_signed(new_root, Root.type, metadata)
        ):
            return None
        chosen = self._choose(new_root, waiting)
        targets = chosen.get(Targets.type) or self.newest(Targets.type)
        return chosen if roles.is_signed(new_root, Targets.type, targets) else None

    def _fits(self, root: Root, published: Metadata[Any], targets: Metadata[Any], waiting: Documents) -> bool:
        """Tell whether ``targets`` may be published: signed, and so are all bins for its delegation."""
        if not roles.is_signed(root, Targets.type, targets):
            return False
        listing = load_signed_targets(targets)
        if listing.delegations == load_signed_targets(published).delegations:
            return True
        found = {name: waiting.get(name) or self.files.load(name) for name in roles.bins_of(listing)}
        return all(one is not None and roles.is_signed(listing, name, one) for name, one in found.items())

    def _write(self, documents: Documents) -> None:
        """Bins before the targets that delegate them; what is alike is one file with many names."""
        alike: dict[bytes, list[str]] = {}
        for role, metadata in documents.items():
            if role not in roles.ROLES:
                alike.setdefault(metadata.to_bytes(), []).append(role)
        for names in alike.values():
            self.files.write_alike(names, documents[names[0]])
        if Targets.type in documents:
            self.files.write(Targets.type, documents[Targets.type])

    def _remove_superseded(self) -> None:
        """Remove metadata that was superseded more than `SUPERSEDED_KEPT_S` ago. When that was is
        when the next version was written. Roots stay: clients walk through all of them."""
        before = time.time() - SUPERSEDED_KEPT_S
        for role, versions in self.files.versions().items():
            if role == Root.type:
                continue
            for version, following in pairwise(versions):
                if self.files.file(role, following).stat().st_mtime >= before:
                    break
                remove(self.files.file(role, version))


def no_key(role: str, folder: Path) -> SettingsError:
    return SettingsError(
        f"no key at hand signs {role!r} of {folder}",
        hint="restore the keys and signers.json from a backup; devices trust no other",
        code="trust.keys",
    )


def _keyids(delegators: Iterable[Root | Targets], role: str) -> set[str]:
    found: set[str] = set()
    for delegator in delegators:
        if isinstance(delegator, Root) or role in roles.bins_of(delegator):
            found.update(roles.keyids_of(delegator, role))
    return found


def _is_signed_under(roots: Sequence[Root], role: str, metadata: Metadata[Any] | None) -> bool:
    return metadata is not None and all(roles.is_signed(root, role, metadata) for root in roots)


def _targets_in(waiting: Documents) -> list[Targets]:
    return [load_signed_targets(waiting[Targets.type])] if Targets.type in waiting else []
