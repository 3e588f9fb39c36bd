"""What is told to systemd, and when."""

import os
from pathlib import Path

import pytest

from fleet_agent.runtimes.found import PROBE_WITHIN_S, RUNTIMES
from fleet_agent.service import Service, take_service
from tests.kit.systemd import NotifySocket


def test_the_watchdog_is_fed_by_turns_and_not_more_often_than_it_needs(tmp_path: Path) -> None:
    systemd = NotifySocket(tmp_path / "notify")
    service = take_service(systemd.environment(8.0))
    service.started()
    for now_s in (0.0, 1.0, 1.9, 2.0, 3.0, 9.0):
        service.turned(now_s, "well")
    service.stopping()
    assert systemd.read() == [
        "READY=1",
        "STATUS=well",
        "WATCHDOG=1",
        "WATCHDOG=1",
        "WATCHDOG=1",
        "STOPPING=1",
    ]
    systemd.close()


def test_a_status_is_told_when_it_changes_and_on_one_line(tmp_path: Path) -> None:
    systemd = NotifySocket(tmp_path / "notify")
    service = Service(str(systemd.path))
    for status in ("a", "a", "b\nREADY=1", "a"):
        service.turned(0.0, status)
    assert systemd.read() == ["STATUS=a", "STATUS=b READY=1", "STATUS=a"]
    service.stopping()
    systemd.close()


@pytest.mark.parametrize(
    ("environment", "address", "every_s"),
    [
        ({}, None, None),
        ({"NOTIFY_SOCKET": "/run/x"}, "/run/x", None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "60000000"}, "/run/x", 15.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, None, 15.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None, None),
        ({"WATCHDOG_USEC": "0"}, None, None),
        ({"WATCHDOG_USEC": "soon"}, None, None),
    ],
)
def test_the_environment_is_taken_and_not_left_for_children(
    environment: dict[str, str], address: str | None, every_s: float | None
) -> None:
    environment["HOME"] = "/"
    service = take_service(environment)
    assert (service.address, service.feed_every_s) == (address, every_s)
    assert environment == {"HOME": "/"}


def test_a_systemd_that_is_away_ends_nothing(tmp_path: Path) -> None:
    service = Service(str(tmp_path / "nobody"), 1.0)
    service.started()
    service.turned(0.0, "well")
    service.stopping()
    abstract = Service("@fleet-agent-test-nobody")
    abstract.started()
    abstract.stopping()


def read_unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (Path(__file__).parents[2] / "deploy/systemd/fleet-agent.service").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_waits_until_every_runtime_was_tried() -> None:
    """A start that is cut off leaves nothing behind, and the next one would be cut off as well."""
    (limit,) = read_unit()["TimeoutStartSec"]
    assert int(limit) >= len(RUNTIMES) * PROBE_WITHIN_S + 120


def test_the_unit_waits_for_no_time_server() -> None:
    """time-sync.target comes, where somebody enabled it, with the first answer of one."""
    assert not any("time-sync.target" in value for values in read_unit().values() for value in values)


def test_the_unit_lets_the_agent_ask_for_the_clock() -> None:
    """A C library of 64-bit times on a 32-bit machine asks by another name."""
    allowed = " ".join(read_unit()["SystemCallFilter"]).split()
    assert {"adjtimex", "clock_adjtime", "clock_adjtime64"} <= set(allowed)
