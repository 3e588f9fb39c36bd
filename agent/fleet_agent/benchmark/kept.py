"""What was measured on this device, kept: a version is measured once, not at every try."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from fleet_agent import __version__
from fleet_agent.benchmark.rows import BenchmarkRow
from fleet_shared.durable import write_durably
from fleet_shared.names import Digest

log = logging.getLogger(__name__)

MANIFESTS_MAX: Final = 8


class KeptTable(msgspec.Struct, frozen=True, kw_only=True):
    """``conditions``: agent, runtimes and threads; under others a table says nothing."""

    manifest: Digest
    conditions: tuple[str, ...]
    rows: tuple[BenchmarkRow, ...]


def describe_conditions(planned: Sequence[BenchmarkRow]) -> tuple[str, ...]:
    rows = sorted(f"{row.runtime} {row.version} x{row.threads}" for row in planned)
    return (f"fleet-agent {__version__}", *rows)


@dataclass(frozen=True)
class KeptTables:
    """One file; damaged or lost it only costs measuring again."""

    path: Path

    def find(self, manifest: Digest, conditions: tuple[str, ...]) -> tuple[BenchmarkRow, ...] | None:
        for table in self._load():
            if table.manifest == manifest and table.conditions == conditions:
                return table.rows
        return None

    def keep(self, table: KeptTable) -> None:
        """Keep the newest `MANIFESTS_MAX`, one for each manifest."""
        others = [one for one in self._load() if one.manifest != table.manifest]
        try:
            write_durably(self.path, msgspec.json.encode([table, *others][:MANIFESTS_MAX]))
        except OSError as exc:
            log.warning("the benchmark cannot be kept, and is made again next time: %s", exc)

    def _load(self) -> list[KeptTable]:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=list[KeptTable])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return []
