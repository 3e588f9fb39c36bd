"""What killed writers left behind, removed at the start of the agent."""

from contextlib import suppress

from fleet_agent.paths import StatePaths
from fleet_shared.durable import remove


def remove_leftovers(paths: StatePaths) -> None:
    """Remove the temporary files of `fleet_shared.durable.write_durably`: nobody else writes now. They
    cost room, no more: a disk that does not let them go keeps no agent from its start."""
    for folder in (paths.root, paths.identity, paths.trust, paths.downloads):
        for file in folder.glob(".*.tmp"):
            with suppress(OSError):
                remove(file)
