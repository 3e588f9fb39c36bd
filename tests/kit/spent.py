"""What the tests cost: processor seconds by folder, and the dearest tests.

Seconds of a clock say little where processes share a machine. Those of processes that a test started count
too, once they have ended.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Final

import pytest

SPENT: Final = "processor_s"
WORTH_TELLING_S: Final = 60.0
DEAREST: Final = 20


class Meter:
    """Of this process and of all that it started."""

    def __init__(self) -> None:
        self._before_s = _processor_s()

    def take(self) -> float:
        """Return the seconds since it was asked last."""
        before_s, self._before_s = self._before_s, _processor_s()
        return self._before_s - before_s


METER: Final = pytest.StashKey[Meter]()


def sum_up(reports: Iterable[pytest.TestReport]) -> dict[str, float]:
    """Return the seconds of each test by its id: those of its fixtures are its own."""
    spent: dict[str, float] = {}
    for report in reports:
        for name, value in report.user_properties:
            if name == SPENT and isinstance(value, float):
                spent[report.nodeid] = spent.get(report.nodeid, 0.0) + value
    return spent


def tell_spent(spent: Mapping[str, float]) -> list[str]:
    """Return what is shown at the end of a run; nothing after a short one."""
    total = sum(spent.values())
    if total < WORTH_TELLING_S:
        return []
    folders: dict[str, float] = {}
    for test, seconds in spent.items():
        folder = test.partition("::")[0].rpartition("/")[0]
        folders[folder] = folders.get(folder, 0.0) + seconds
    dearest = sorted(spent.items(), key=_seconds_of)[:DEAREST]
    return [
        f"processor seconds: {total:.0f}",
        *(f"{seconds:8.1f} {name}" for name, seconds in sorted(folders.items(), key=_seconds_of)),
        "of single tests, their fixtures included:",
        *(f"{seconds:8.1f} {name}" for name, seconds in dearest),
    ]


def _seconds_of(entry: tuple[str, float]) -> float:
    return -entry[1]


def _processor_s() -> float:
    return sum(os.times()[:4])
