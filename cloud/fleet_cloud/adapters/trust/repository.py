"""The release repository: TUF 1.0 metadata and targets in two folders, as they are served.

Order of writes: targets first, then targets.json, snapshot, timestamp. A reader at any instant
sees a consistent repository, and a writer that was killed is repaired by the next one.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.repository import Repository

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
        """Add targets by path; those that are there already, unchanged, cost nothing."""
        files = {path: TargetFile.from_data(path, content, ["sha256"]) for path, content in targets.items()}
        released = self.targets().targets
        fresh = {path: file for path, file in files.items() if released.get(path) != file}
        for path, file in fresh.items():
            self._write_target(path, file.hashes["sha256"], targets[path])
        if fresh:
            with self.edit_targets() as signed:
                signed.targets.update(fresh)
        self.publish()

    def publish(self) -> None:
        """Bring snapshot and timestamp up to what targets are (also after a kill in between)."""
        self.do_snapshot()
        self.do_timestamp()

    def refresh(self, now: datetime) -> None:
        """Sign again what ends within `RENEWED_BEFORE`."""
        if self.targets().expires - now < RENEWED_BEFORE:
            with self.edit_targets():
                pass
        self.do_snapshot(force=self.snapshot().expires - now < RENEWED_BEFORE)
        self.do_timestamp(force=self.timestamp().expires - now < RENEWED_BEFORE)

    def open(self, role: str) -> Metadata[Any]:
        """Return the newest metadata of ``role``, or a first one."""
        version = self._version(role)
        if version == 0:
            return Metadata(self._first(role))
        return Metadata.from_bytes((self.metadata_dir / self._file(role, version)).read_bytes())

    def close(self, role: str, md: Metadata[Any]) -> None:
        """Sign ``md`` as the next version and write it."""
        md.signed.version = self._version(role) + 1
        md.signed.expires = (datetime.now(UTC) + LIFE[role]).replace(microsecond=0)
        md.sign(self._signers[role])
        write_durably(self.metadata_dir / self._file(role, md.signed.version), md.to_bytes())

    def _create_missing(self) -> None:
        if self._version(Root.type) == 0:
            with self.edit_root() as root:
                root.consistent_snapshot = True
                for role in ROLES:
                    root.add_key(self._signers[role].public_key, role)
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
            return Metadata.from_file(str(file)).signed.version if file.exists() else 0
        names = [path.name.split(".")[0] for path in self.metadata_dir.glob(f"*.{role}.json")]
        return max((int(name) for name in names if name.isdigit()), default=0)

    def _file(self, role: str, version: int) -> str:
        return "timestamp.json" if role == Timestamp.type else f"{version}.{role}.json"

    def _write_target(self, path: str, sha256: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        file = self.targets_dir / folder / f"{sha256}.{name}"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, content)
