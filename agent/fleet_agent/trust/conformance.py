"""A command line for suites that try out clients of The Update Framework, on this agent's own classes:
``python -m fleet_agent.trust.conformance``; see docs/conformance.md.

It differs from the agent in two things: the time is that of the system's clock (such suites move it), and
targets may be as long as their metadata says. Exit code 1: refused.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fleet_agent.trust.fetching import ReleaseFetcher
from fleet_agent.trust.protocol import Repository
from fleet_agent.trust.release import Releases
from fleet_shared.durable import write_durably
from fleet_shared.errors import FleetError

PINNED: Final = "root_history/trusted"
"""The root that `init` was given, where the suite does not look for metadata."""
TARGET_BYTES_MAX: Final = 2**40


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    metadata = Path(given.metadata_dir)
    try:
        match given.command:
            case "init":
                init(metadata, Path(given.trusted_root))
            case "refresh":
                _open(metadata, metadata / "none", given.metadata_url, "").refresh()
            case _:
                folder = Path(given.target_dir)
                releases = _open(metadata, folder, given.metadata_url, given.target_base_url)
                releases.refresh()
                releases.fetch_target(given.target_name, TARGET_BYTES_MAX)
    except (FleetError, OSError) as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
    return 0


def init(metadata: Path, trusted_root: Path) -> None:
    """Believe this root from now on."""
    (metadata / PINNED).parent.mkdir(parents=True, exist_ok=True)
    write_durably(metadata / PINNED, trusted_root.read_bytes())
    _open(metadata, metadata / "none", "http://localhost", "")


def _open(metadata: Path, targets: Path, metadata_url: str, targets_url: str) -> Releases:
    repository = Repository(metadata_url=metadata_url, targets_url=targets_url or metadata_url)
    return Releases(
        (metadata / PINNED).read_bytes(),
        metadata,
        targets,
        ReleaseFetcher(repository),
        (repository.metadata_url, repository.targets_url),
        int(time.time() * 1000),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fleet_agent.trust.conformance")
    parser.add_argument("--metadata-dir", required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", default="")
    parser.add_argument("--target-base-url", default="")
    parser.add_argument("--target-dir", default="")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root")
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


if __name__ == "__main__":
    sys.exit(main())
