"""The release repository: TUF 1.0 metadata and targets in two folders, as they are served.

Order of writes: targets first, then targets.json, snapshot, timestamp. A reader at any instant
sees a consistent repository, and a writer that was killed is repaired by the next one. Each
release writes all targets anew: superseded versions of the metadata go when no client can still
be reading them.
"""

import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.repository import Repository

from fleet_cloud.errors import CloudError, SettingsError
from fleet_shared.durable import write_durably

LIFE: Final = MappingProxyType(
    {
        Root.type: timedelta(days=3650),
        Targets.type: timedelta(days=365),
        Snapshot.type: timedelta(days=90),
        Timestamp.type: timedelta(days=30),
    }
)
RENEWED_BEFORE: Final = timedelta(days=7)
SUPERSEDED_KEPT_S: Final = 3600.0
"""A client that began with an older timestamp has ended by then."""

TARGETS_BYTES_MAX: Final = 4_500_000
"""Devices refuse more than 5,000,000 bytes (python-tuf's default); the rest is for new signatures."""

ROLES: Final = (Root.type, Targets.type, Snapshot.type, Timestamp.type)


class ReleaseRepository(Repository):
    """``signers`` has one signer for each of the four top-level roles."""

    def __init__(self, folder: Path, signers: Mapping[str, CryptoSigner]) -> None:
        self.metadata_dir = folder / "metadata"
        self.targets_dir = folder / "targets"
        self._signers = signers
        for path in (self.metadata_dir, self.targets_dir):
            path.mkdir(parents=True, exist_ok=True)
        self._create_missing()

    @property
    def root_json(self) -> bytes:
        """The first root: what tokens pin. Clients walk from it to the newest."""
        return (self.metadata_dir / "1.root.json").read_bytes()

    @property
    def targets_infos(self) -> dict[str, MetaFile]:
        return {"targets.json": MetaFile(self._version(Targets.type))}

    @property
    def snapshot_info(self) -> MetaFile:
        return MetaFile(self._version(Snapshot.type))

    def release(self, targets: Mapping[str, bytes]) -> None:
        """Add targets by path; those that are there already, unchanged, cost nothing. Raises
        `CloudError` (``release.full``) before devices would refuse the metadata."""
        files = {path: TargetFile.from_data(path, content, ["sha256"]) for path, content in targets.items()}
        metadata = self.open(Targets.type)
        released = metadata.signed.targets
        fresh = {path: file for path, file in files.items() if released.get(path) != file}
        if fresh:
            released.update(fresh)
            _check_size(metadata)
            for path, file in fresh.items():
                self._write_target(path, file.hashes["sha256"], targets[path])
            self.close(Targets.type, metadata)
        self.publish()

    def load_target(self, path: str) -> bytes | None:
        """Return the newest released content of ``path``, none if it was never released."""
        file = self.targets().targets.get(path)
        return None if file is None else self._target_file(path, file.hashes["sha256"]).read_bytes()

    def publish(self) -> None:
        """Bring snapshot and timestamp up to what targets are (also after a kill in between)."""
        self.do_snapshot()
        self.do_timestamp()
        self._remove_superseded()

    def refresh(self, now: datetime) -> None:
        """Sign again what ends within `RENEWED_BEFORE`."""
        if self.targets().expires - now < RENEWED_BEFORE:
            with self.edit_targets():
                pass
        self.do_snapshot(force=self.snapshot().expires - now < RENEWED_BEFORE)
        self.do_timestamp(force=self.timestamp().expires - now < RENEWED_BEFORE)
        self._remove_superseded()

    def open(self, role: str) -> Metadata[Any]:
        """Return the newest metadata of ``role``, or a first one."""
        version = self._version(role)
        if version == 0:
            return Metadata(self._first(role))
        return self._load(self.metadata_dir / self._file(role, version))

    def close(self, role: str, md: Metadata[Any]) -> None:
        """Sign ``md`` as the next version and write it."""
        md.signed.version = self._version(role) + 1
        md.signed.expires = (datetime.now(timezone.utc) + LIFE[role]).replace(microsecond=0)
        md.sign(self._signers[role])
        write_durably(self.metadata_dir / self._file(role, md.signed.version), md.to_bytes())

    def _create_missing(self) -> None:
        if self._version(Root.type) == 0:
            self._check_fresh()
            with self.edit_root() as root:
                root.consistent_snapshot = True
                for role in ROLES:
                    root.add_key(self._signers[role].public_key, role)
        self._check_signers()
        if self._version(Targets.type) == 0:
            with self.edit_targets():
                pass
        self.publish()

    def _first(self, role: str) -> Signed:
        kinds = {Root.type: Root, Targets.type: Targets, Snapshot.type: Snapshot, Timestamp.type: Timestamp}
        first: Signed = kinds[role](version=1)
        return first

    def _version(self, role: str) -> int:
        """Return the newest version on disk; 0 for none."""
        if role == Timestamp.type:
            file = self.metadata_dir / "timestamp.json"
            return self._load(file).signed.version if file.exists() else 0
        return max((int(file.name.split(".")[0]) for file in self._versions(role)), default=0)

    def _file(self, role: str, version: int) -> str:
        return "timestamp.json" if role == Timestamp.type else f"{version}.{role}.json"

    def _load(self, file: Path) -> Metadata[Any]:
        try:
            return Metadata.from_bytes(file.read_bytes())
        except DeserializationError as exc:
            raise SettingsError(
                f"the release metadata {file} cannot be read: {exc}",
                hint="restore the folder from a backup",
                code="trust.metadata",
            ) from exc

    def _check_fresh(self) -> None:
        """Raise if there are releases whose root is gone: devices trust no other."""
        if any(self.metadata_dir.glob("*.json")):
            raise SettingsError(
                f"{self.metadata_dir / '1.root.json'} is missing",
                hint="restore it from a backup; devices trust no other",
                code="trust.metadata",
            )

    def _check_signers(self) -> None:
        roles = self.root().roles
        for role in ROLES:
            if self._signers[role].public_key.keyid not in roles[role].keyids:
                raise SettingsError(
                    f"the key {role!r} is not the one that {self.metadata_dir} names",
                    hint="restore it from a backup; devices trust no other",
                    code="trust.keys",
                )

    def _remove_superseded(self) -> None:
        """Remove metadata that was superseded more than `SUPERSEDED_KEPT_S` ago. When that was is
        when the next version was written. Roots stay: clients walk through all of them."""
        before = time.time() - SUPERSEDED_KEPT_S
        for role in (Targets.type, Snapshot.type):
            files = {int(file.name.split(".")[0]): file for file in self._versions(role)}
            for version in sorted(files)[:-1]:
                following = files.get(version + 1)
                if following is not None and following.stat().st_mtime >= before:
                    break
                files[version].unlink(missing_ok=True)

    def _versions(self, role: str) -> list[Path]:
        files = self.metadata_dir.glob(f"*.{role}.json")
        return [file for file in files if file.name.split(".")[0].isdigit()]

    def _target_file(self, path: str, sha256: str) -> Path:
        folder, _, name = path.rpartition("/")
        return self.targets_dir / folder / f"{sha256}.{name}"

    def _write_target(self, path: str, sha256: str, content: bytes) -> None:
        file = self._target_file(path, sha256)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, content)


def _check_size(metadata: Metadata[Any]) -> None:
    size = len(metadata.to_bytes())
    if size > TARGETS_BYTES_MAX:
        raise CloudError(
            f"the list of all releases would have {size} bytes, devices take {TARGETS_BYTES_MAX}",
            hint="this controller holds as many versions as it can: start another for new models",
            code="release.full",
        )
