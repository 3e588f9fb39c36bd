"""How the tests are shared out among processes that run side by side (pytest-xdist, ``-n``).

A group stays in one process, in its order. The longest come first, so that no process is left alone with one
at the end: the tests with TensorFlow, which compute, and beside them those with real processes, which wait
more than they compute; each of these is a group of its own.
"""

from functools import cache
from pathlib import Path
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT: Final = Path(__file__).parents[2]
TENSORFLOW: Final = "tests/cloud/factory/"
"""It takes its time to import and to train, and as much memory as the rest: one process only."""
SYSTEM: Final = "tests/system/"


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives the next group to the process that has the least left."""

    def _split_scope(self, nodeid: str) -> str:
        return find_group(nodeid)


def find_group(nodeid: str) -> str:
    """Return the name of the group that a test belongs to."""
    file = nodeid.partition("::")[0]
    if file.startswith(TENSORFLOW):
        return TENSORFLOW
    if file.startswith(SYSTEM) and not shares_a_fixture(ROOT / file):
        return nodeid
    return file


@cache
def shares_a_fixture(file: Path) -> bool:
    """Whether something is made once for all tests of a file."""
    return 'scope="module"' in file.read_text()


def put_long_ones_first(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: find_turn(item.nodeid))


def find_turn(nodeid: str) -> int:
    """Return when a test is shared out, 0 for the first ones."""
    first = (TENSORFLOW, SYSTEM)
    return next((turn for turn, folder in enumerate(first) if nodeid.startswith(folder)), len(first))
