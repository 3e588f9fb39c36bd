"""Where the release repository lies: what is published, and what waits for signatures.

``metadata/`` and ``targets/`` are served as they are; ``staged/`` is not. Names of files carry their version,
so that a file never changes once it is there; timestamp.json alone is replaced.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Root, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from fleet_cloud.errors import SettingsError
from fleet_shared.durable import make_folder, remove, sync_folder, write_durably
from fleet_shared.names import digest_of


class ReleaseFolder:
    def __init__(self, folder: Path) -> None:
        self.metadata_dir = folder / "metadata"
        self.targets_dir = folder / "targets"
        self.staged_dir = folder / "staged"
        for path in (self.metadata_dir, self.targets_dir, self.staged_dir):
            make_folder(path, parents=True)

    def versions(self) -> dict[str, list[int]]:
        """Return the versions of each role that are published, ascending; not of the timestamp."""
        found: dict[str, list[int]] = {}
        with os.scandir(self.metadata_dir) as entries:
            for entry in entries:
                number, _, rest = entry.name.partition(".")
                if number.isdigit() and rest.endswith(".json"):
                    found.setdefault(rest.removesuffix(".json"), []).append(int(number))
        return {role: sorted(versions) for role, versions in found.items()}

    def version(self, role: str) -> int:
        """Return the newest published version; 0 for none."""
        if role == Timestamp.type:
            newest = self.load(role)
            return 0 if newest is None else int(newest.signed.version)
        return max(self.versions().get(role, [0]))

    def file(self, role: str, version: int) -> Path:
        return self.metadata_dir / ("timestamp.json" if role == Timestamp.type else f"{version}.{role}.json")

    def load(self, role: str) -> Metadata[Any] | None:
        """Return the newest published metadata of ``role``; raise `SettingsError` (``trust.metadata``)."""
        version = 0 if role == Timestamp.type else self.version(role)
        file = self.file(role, version)
        return load_metadata(file) if file.exists() else None

    def write(self, role: str, metadata: Metadata[Any]) -> None:
        write_durably(self.file(role, metadata.signed.version), metadata.to_bytes())

    def write_alike(self, roles: list[str], metadata: Metadata[Any]) -> None:
        """Write the same document for many roles: one file with many names, which costs one sync."""
        first, *others = (self.file(role, metadata.signed.version) for role in roles)
        write_durably(first, metadata.to_bytes())
        for file in others:
            file.unlink(missing_ok=True)
            file.hardlink_to(first)
        if others:
            sync_folder(self.metadata_dir)

    def describe(self, role: str, version: int) -> MetaFile:
        """Return what another document says of this one: its version, length and hash."""
        raw = self.file(role, version).read_bytes()
        return MetaFile(version, len(raw), {"sha256": digest_of(raw)})

    def load_staged(self) -> dict[str, Metadata[Any]]:
        """Return what waits for signatures; what was published meanwhile waits no longer."""
        files = [file for file in self.staged_dir.glob("*.json") if not file.name.startswith(".")]
        if not files:
            return {}
        versions = self.versions()
        staged = {file.stem: load_metadata(file) for file in files}
        waiting = {
            role: metadata
            for role, metadata in staged.items()
            if metadata.signed.version > max(versions.get(role, [0]))
        }
        for role in staged.keys() - waiting.keys():
            remove(self.staged_dir / f"{role}.json")
        return waiting

    def stage(self, staged: Mapping[str, Metadata[Any]]) -> None:
        """Let exactly these wait for signatures."""
        for role, metadata in staged.items():
            file, raw = self.staged_dir / f"{role}.json", metadata.to_bytes()
            if not file.exists() or file.read_bytes() != raw:
                write_durably(file, raw)
        for file in self.staged_dir.glob("*.json"):
            if file.stem not in staged:
                remove(file)

    def target_file(self, path: str, sha256: str) -> Path:
        folder, _, name = path.rpartition("/")
        return self.targets_dir / folder / f"{sha256}.{name}"

    def write_target(self, path: str, content: bytes) -> None:
        file = self.target_file(path, digest_of(content))
        make_folder(file.parent, parents=True)
        if not file.exists():
            write_durably(file, content)

    def load_target(self, path: str, sha256: str) -> bytes:
        file = self.target_file(path, sha256)
        try:
            return file.read_bytes()
        except FileNotFoundError as exc:
            raise _damaged(file, "it is missing") from exc

    def remove_unbegun(self) -> None:
        """Remove what was written before a first root was: nobody has seen it."""
        if not self.file(Root.type, 1).exists():
            for file in self.metadata_dir.glob("*.json"):
                remove(file)

    def check_begun(self) -> None:
        """Raise if there are releases whose first root is gone: devices trust no other. A beginning that was
        cut off has its first root waiting still."""
        root = self.file(Root.type, 1)
        waiting = self.staged_dir / "root.json"
        if waiting.exists() and load_metadata(waiting).signed.version == 1:
            return
        if not root.exists() and any(self.metadata_dir.glob("*.json")):
            raise SettingsError(
                f"{root} is missing",
                hint="restore it from a backup; devices trust no other",
                code="trust.metadata",
            )


def load_metadata(file: Path) -> Metadata[Any]:
    try:
        return Metadata.from_bytes(file.read_bytes())
    except DeserializationError as exc:
        raise _damaged(file, str(exc)) from exc


def load_signed_root(metadata: Metadata[Any]) -> Root:
    """Return the root in ``metadata``; raise `SettingsError` when it is something else."""
    if not isinstance(metadata.signed, Root):
        raise _damaged(Path("root.json"), f"it is a {metadata.signed.type}")
    return metadata.signed


def load_signed_targets(metadata: Metadata[Any]) -> Targets:
    if not isinstance(metadata.signed, Targets):
        raise _damaged(Path("targets.json"), f"it is a {metadata.signed.type}")
    return metadata.signed


def _damaged(file: Path, why: str) -> SettingsError:
    return SettingsError(
        f"the release metadata {file} cannot be read: {why}",
        hint="restore the folder from a backup",
        code="trust.metadata",
    )
