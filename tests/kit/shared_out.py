"""How the tests are shared out among processes that run side by side (pytest-xdist, ``--dist loadgroup``).

A group stays in one process, in its order. The tests with real processes wait more than they compute: each is
a group of its own, and they come first, so that no process is left alone with a long one at the end.
"""

import pytest

TENSORFLOW = "tests/cloud/factory/"
"""It takes its time to import and to train, and as much memory as the rest: one process only."""


def share_out(items: list[pytest.Item]) -> None:
    """Order the tests, and mark each with the group that it belongs to."""
    items.sort(key=lambda item: item.get_closest_marker("system") is None)
    for item in items:
        if (group := _find_group(item)) is not None:
            item.add_marker(pytest.mark.xdist_group(group))


def _find_group(item: pytest.Item) -> str | None:
    """Return none for a test that may run beside any other of its file."""
    file = item.nodeid.partition("::")[0]
    if file.startswith(TENSORFLOW):
        return TENSORFLOW
    if item.get_closest_marker("system") is not None and not _shares_a_fixture(item):
        return None
    return file


def _shares_a_fixture(item: pytest.Item) -> bool:
    """Whether a fixture is made once for all tests of its module."""
    if not isinstance(item, pytest.Function):
        return False
    info = item._fixtureinfo
    return any(found[-1].scope == "module" for found in info.name2fixturedefs.values())
